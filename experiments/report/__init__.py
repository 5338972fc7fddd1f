"""The verb ``report``: one page about finished runs of all other verbs."""
