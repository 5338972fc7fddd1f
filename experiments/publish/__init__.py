"""Publish encoders and slide models, and export predictions: ``tcgn-mil publish``."""
