"""TODO: say what tcgn_mil/inference holds."""
