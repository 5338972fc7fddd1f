"""One example of every figure, drawn from small made data in a few seconds."""
