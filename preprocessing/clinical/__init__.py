"""TODO: say what preprocessing/clinical holds."""
