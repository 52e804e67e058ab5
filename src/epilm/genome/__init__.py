"""Genome files to arrays: sequence, contig names, bigWig, states, annotation."""
