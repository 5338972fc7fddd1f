"""TODO: say what preprocessing/bulk/readers holds."""
