"""Encoded data on disk: latents and texts of clips, made once by any number of processes and read by mapping."""
