"""TODO: say what experiments/demo holds."""
