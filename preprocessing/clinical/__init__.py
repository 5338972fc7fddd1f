"""Read clinical tables of several layouts into outcomes in days and covariates.

The command is ``tcgn-mil clinical``.
"""
