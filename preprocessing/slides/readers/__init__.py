"""TODO: say what preprocessing/slides/readers holds."""
