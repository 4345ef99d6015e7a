"""Read files of tensors without executing anything in them, and check their tensors."""
