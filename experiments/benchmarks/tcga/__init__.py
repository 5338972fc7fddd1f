"""Predict expression, immune scores and survival of TCGA cohorts from published slide features."""
