"""The built-in base models; this package imports no torch until a model is built."""
