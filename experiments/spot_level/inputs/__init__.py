"""Inputs of a spot-level run: sections, their targets, and which of them train, validate and test."""
