"""Training of spot encoders and slide models: loop, losses, optimizer, resumable state, refits."""
