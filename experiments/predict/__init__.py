"""TODO: say what experiments/predict holds."""
