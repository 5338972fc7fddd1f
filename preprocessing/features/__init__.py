"""TODO: say what preprocessing/features holds."""
