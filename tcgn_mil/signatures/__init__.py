"""Gene sets: reading them, scoring patients and models on them, and testing for enrichment."""
