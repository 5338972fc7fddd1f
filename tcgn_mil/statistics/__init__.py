"""TODO: say what tcgn_mil/statistics holds."""
