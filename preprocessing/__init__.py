"""Preprocessing: from slides, ST sections, expression and clinical tables to the package's files.

Nothing in here imports torch, so that preprocessing also runs where it is not installed.
"""
