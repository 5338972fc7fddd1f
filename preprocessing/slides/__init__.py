"""TODO: say what preprocessing/slides holds."""
