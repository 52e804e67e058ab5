"""What a trained model says: embeddings, TF binding over a genome, variants, bases that matter, and export."""
