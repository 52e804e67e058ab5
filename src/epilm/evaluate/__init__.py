"""Metrics and baselines; pure."""
