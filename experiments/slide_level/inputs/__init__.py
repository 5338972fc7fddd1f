"""Inputs of a slide-level run: the cohort, the targets of a fold and the spot encoder."""
