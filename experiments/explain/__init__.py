"""TODO: say what experiments/explain holds."""
