"""Arguments as users bring them: numbers and lists of any library, and attributes that are decided once an object is made."""
