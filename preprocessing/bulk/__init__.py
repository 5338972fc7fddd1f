"""Join bulk expression to slides by patient and write the cohort (``tcgn-mil bulk``).

:mod:`~tcgn_mil.preprocessing.bulk.readers` has one module for each layout of expression files.
"""
