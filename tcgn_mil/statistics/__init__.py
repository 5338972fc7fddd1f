"""Correlation per gene, its uncertainty and its p-values, over patients and over spots.

All functions are vectorised over genes: the genes are the columns of a matrix, and a gene that has
no answer is NaN in the result.
"""
