"""Files of others brought here, by the publishers' own libraries, and only after `--download`."""
