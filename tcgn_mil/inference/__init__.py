"""Predictions of trained models for tiles, spots, slides and patients, and the OOD score."""
