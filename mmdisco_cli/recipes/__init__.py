"""Recipes: found, read, checked and overridden; plain YAML in, frozen dataclasses out."""
