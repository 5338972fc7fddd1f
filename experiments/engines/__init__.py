"""Workers that share the slides of a cohort: processes of this machine, or actors of Ray."""
