"""TODO: say what preprocessing/sections holds."""
