"""Regressors on embeddings, k-mer counts and state fractions."""
