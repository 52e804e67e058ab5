"""Differential expression from histone marks: the study of ``epilm expression``."""
