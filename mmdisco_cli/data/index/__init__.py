"""Find the clips of any layout: rows of media, captions, labels and splits, without decoding anything."""
