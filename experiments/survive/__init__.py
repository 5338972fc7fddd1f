"""TODO: say what experiments/survive holds."""
