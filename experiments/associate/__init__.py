"""Relate predicted expression to immune signatures, covariates, gene sets and cell types."""
