"""What a trained model is used for: embeddings and export."""
