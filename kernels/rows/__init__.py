"""Random rows: box, colour factors, blur and switches of every view, from counter-based random words."""
