"""Predict bulk expression of patients from features or slides: ``tcgn-mil predict``."""
