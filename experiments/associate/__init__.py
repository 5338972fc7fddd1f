"""TODO: say what experiments/associate holds."""
