"""Make a synthetic cohort with known truth: slides, spots, bulk expression and survival."""

from __future__ import annotations

from tcgn_mil.experiments.demo.synthetic.cohort import SyntheticPaths, make_cohort
from tcgn_mil.experiments.demo.synthetic.config import REGIONS, SyntheticConfig, preset

__all__ = ["REGIONS", "SyntheticConfig", "SyntheticPaths", "make_cohort", "preset"]
