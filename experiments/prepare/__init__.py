"""TODO: say what experiments/prepare holds."""
