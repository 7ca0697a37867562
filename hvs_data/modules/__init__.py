"""A user's modules: which ones there are behind an objective, and that scoring with them leaves no trace in them."""
