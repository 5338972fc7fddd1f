"""Measurements of how fast slide models train and slides are encoded; scale.md has the results."""
