"""Measurements of how fast tiles reach a GPU, and of how fast it computes."""
