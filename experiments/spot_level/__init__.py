"""TODO: say what experiments/spot_level holds."""
