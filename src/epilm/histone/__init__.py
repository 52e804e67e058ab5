"""Histone marks around genes: counts in bins, pairs of cell types, and the words of a histone language."""
