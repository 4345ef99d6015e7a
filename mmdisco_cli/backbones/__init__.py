"""The built-in base models; the package imports no torch until a model is built."""
