"""Run folders, and the parts from which pages about runs are made: tables, figures, words."""
