"""TODO: say what preprocessing/sections/readers holds."""
