"""Are the files sound: every image of a source read and decoded once, and what was found."""
