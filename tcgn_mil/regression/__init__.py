"""Regression in closed form, and the scale of the features that it reads."""
