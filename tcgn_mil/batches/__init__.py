"""TODO: say what tcgn_mil/batches holds."""
