"""Studies: one recipe trained and measured under several settings."""
