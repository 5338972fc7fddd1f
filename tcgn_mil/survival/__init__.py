"""TODO: say what tcgn_mil/survival holds."""
