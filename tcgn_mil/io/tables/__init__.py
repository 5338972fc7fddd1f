"""TODO: say what tcgn_mil/io/tables holds."""
