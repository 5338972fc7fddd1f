"""Read sections of spatial transcriptomics and write their spots and patches (``tcgn-mil spots``).

:mod:`~tcgn_mil.preprocessing.sections.readers` has one module for each layout of sections.
"""
