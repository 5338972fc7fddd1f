"""TODO: say what experiments/slide_level holds."""
