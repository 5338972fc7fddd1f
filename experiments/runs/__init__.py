"""TODO: say what experiments/runs holds."""
