"""Masks from stateless randomness."""
