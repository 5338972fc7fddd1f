"""What a slide-level run is made from: the cohort, the targets of a fold and the spot encoder."""
