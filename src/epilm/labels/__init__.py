"""Labels of bins: where a factor is bound (B), may be (A) or is not (U), from peaks or label files, as runs of bins."""
