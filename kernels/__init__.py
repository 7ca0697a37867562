"""Array in, array out: one folder an operation. No randomness, no files, no models."""
