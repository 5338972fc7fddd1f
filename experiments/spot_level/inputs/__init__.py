"""Inputs of a spot-level run: sections, their targets, and the parts that they play in folds."""
