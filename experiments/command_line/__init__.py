"""What the verbs of ``tcgn-mil`` share: options, printed results and exit codes.

Nothing heavy is imported here, so that ``tcgn-mil --help`` answers at once.
"""
