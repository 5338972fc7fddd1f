"""Survival analysis: Cox regression, risk scores of unseen patients, and how accurate they are."""
