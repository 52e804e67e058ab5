"""EBERT and DBERT; single device, no Ray, no DeepSpeed."""
