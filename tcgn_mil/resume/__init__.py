"""Continue earlier work without stale results: digests, lists of cohorts, locks of folders."""
