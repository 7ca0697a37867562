"""A look before a run: are the files sound, what will the views look like, how fast do they come."""
