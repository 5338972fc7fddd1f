"""TODO: say what experiments/report holds."""
