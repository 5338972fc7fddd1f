"""TODO: say what experiments/encode holds."""
