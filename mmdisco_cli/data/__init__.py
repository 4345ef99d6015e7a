"""Media files and folders as data sets; the package imports no torch until one is read."""
