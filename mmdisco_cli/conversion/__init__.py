"""Checkpoints and data sets of other projects."""
