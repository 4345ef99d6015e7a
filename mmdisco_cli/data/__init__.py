"""Media, folders and the synthetic sets; this package imports no torch until one is read."""
