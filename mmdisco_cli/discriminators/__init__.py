"""The discriminators; this package imports no torch until one is built."""
