"""Mean squared distance between the views of one image."""
