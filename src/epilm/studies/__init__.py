"""Whole comparisons: several models from the same seeds, with everything between their settings and one table."""
