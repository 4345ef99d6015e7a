"""Files of tensors, read without running anything in them, and what their tensors must be."""
