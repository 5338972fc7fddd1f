"""TODO: say what preprocessing/bulk holds."""
