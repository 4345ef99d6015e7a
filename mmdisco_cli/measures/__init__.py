"""Measures: clips and arrays in, numbers out. No network with weights, no samples made."""
