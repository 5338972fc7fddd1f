"""Run the whole chain on a synthetic cohort whose truth is known."""
