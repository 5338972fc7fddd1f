"""Expression on the scale that models are trained on, for spots and for bulk samples."""
