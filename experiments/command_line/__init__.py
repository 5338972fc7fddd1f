"""The verbs of ``tcgn-mil``, a module for each stage. Nothing heavy is imported at their top."""
