"""Layers that TCGN is built from; they know no models."""
