"""Values of marks as words: a letter a mark, a word a bin, a line a gene."""
