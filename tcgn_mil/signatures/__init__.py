"""TODO: say what tcgn_mil/signatures holds."""
