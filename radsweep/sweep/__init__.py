"""Which cells are missing, what they cost, and the drivers that fill them in."""
