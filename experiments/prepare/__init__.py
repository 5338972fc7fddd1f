"""The verbs whose work is done by ``preprocessing``: raw inputs become files of this package."""
