"""Measure speed, memory and calibration; the results are in ``experiments/results``."""
