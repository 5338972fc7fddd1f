"""The verbs of ``tcgn-mil``: studies, prediction, analyses and the report, one folder for each."""
