"""TorchTrainer and DeepSpeed around a task."""
