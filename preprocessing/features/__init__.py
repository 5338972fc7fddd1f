"""Import tile and slide features that other tools computed as feature files of this package.

:mod:`~tcgn_mil.preprocessing.features.readers` has one module for each layout of another tool.
"""
