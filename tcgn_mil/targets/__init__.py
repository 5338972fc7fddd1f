"""TODO: say what tcgn_mil/targets holds."""
