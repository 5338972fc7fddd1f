"""Train or fit the slide model of each fold, refit it on permuted labels, and fit its baselines."""
