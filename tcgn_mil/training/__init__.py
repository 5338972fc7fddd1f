"""TODO: say what tcgn_mil/training holds."""
