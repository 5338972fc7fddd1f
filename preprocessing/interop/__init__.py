"""TODO: say what preprocessing/interop holds."""
