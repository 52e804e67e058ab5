"""What a run is: data, batch, loss, metrics."""
