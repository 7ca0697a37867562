"""Rows: what is drawn of every view before any pixel is. Sampling, masks, overlap, which slots make a pair, and what foretells a loss."""
