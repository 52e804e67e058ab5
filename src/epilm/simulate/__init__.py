"""A toy epigenome with planted truth."""
