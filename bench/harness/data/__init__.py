"""The images that are loaded and trained on."""
