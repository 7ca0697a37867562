"""The loaders that are compared, ours and those of other libraries, and what is measured of them."""
