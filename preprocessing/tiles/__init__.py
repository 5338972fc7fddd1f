"""TODO: say what preprocessing/tiles holds."""
