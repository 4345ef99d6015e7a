"""Trainings of one base model on its own modality alone."""
