"""Slides of a cohort: their ids, patients and resolution, and the readers of their pixels."""
