"""The provenance names versions and the values that are given."""

from __future__ import annotations

import json

from tcgn_mil.provenance import provenance


def test_provenance_names_versions_and_what_is_given() -> None:
    made = provenance(seed=3)
    assert made["seed"] == 3
    assert made["packages"]["numpy"]
    assert json.dumps(made)
