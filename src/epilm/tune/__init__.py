"""Search over settings of pre-training, and comparison of arms over seeds, both at equal tokens."""
