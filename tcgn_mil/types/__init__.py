"""TODO: say what tcgn_mil/types holds."""
