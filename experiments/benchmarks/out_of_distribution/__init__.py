"""Measure how often unusual slides are flagged, at 5 % false alarms."""
