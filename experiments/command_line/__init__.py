"""Options, printed results and exit codes that the verbs of ``tcgn-mil`` share.

Nothing heavy is imported here, so that ``tcgn-mil --help`` answers at once.
"""
