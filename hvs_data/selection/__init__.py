"""Which pair is taken: who is needed, what may be chosen, what is chosen, in which steps, at which cost."""
