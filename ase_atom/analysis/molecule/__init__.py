"""A molecule by itself: internal coordinates, symmetry, minima and normal modes."""
