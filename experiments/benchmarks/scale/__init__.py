"""Measurements of how cost grows with the number of slides; scale.md has the results."""
