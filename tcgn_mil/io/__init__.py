"""Data at rest and on its way to a model: tile, feature and spot files; datasets, bags, splits, targets."""
