"""What a setting of the selector costs, and how much of the hardness it captures."""
