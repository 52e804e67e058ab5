"""DNA and states to token ids, vectorised."""
