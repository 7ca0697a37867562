"""What a user sees of the hardness of selected views while a training runs."""
