"""Small worlds whose truth is known, each with its data, models, detectors and evaluation protocol."""
