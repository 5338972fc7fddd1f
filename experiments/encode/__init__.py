"""The verb ``encode``: features of all tiles of a cohort."""
