"""Simple rivals of a TF-binding model: a k-mer logistic regression and a position-weight matrix."""
