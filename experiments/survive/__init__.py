"""Cross-validate survival models on expression and covariates: ``tcgn-mil survive``."""
