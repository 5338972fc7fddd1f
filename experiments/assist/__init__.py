"""The verbs that help to use the others: ``status``, ``doctor`` and ``config``."""
