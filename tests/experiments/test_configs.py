"""Every shipped config parses, and those that show defaults show the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.config import as_plain, differing_keys, resolve_config
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.slide_level.run import FinetuneConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.survive.config import SurviveConfig

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
CLASSES = {
    "associate": AssociationConfig,
    "spots": SpotConfig,
    "finetune": FinetuneConfig,
    "survive": SurviveConfig,
}
RECIPES = {"spots_recipe": SpotConfig}  # they differ from the defaults on purpose


def test_every_config_file_has_a_class() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*CLASSES, *RECIPES}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_config_files_show_the_defaults(name: str) -> None:
    found = resolve_config(CLASSES[name], yaml_path=CONFIGS / f"{name}.yaml")
    required = {"finetune": ["cohort=cohort.h5ad", "features=features"]}.get(name, [])
    default = resolve_config(CLASSES[name], overrides=required)
    assert differing_keys(as_plain(found), as_plain(default)) == []


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_parse_and_change_something(name: str) -> None:
    found = resolve_config(RECIPES[name], yaml_path=CONFIGS / f"{name}.yaml")
    assert differing_keys(as_plain(found), as_plain(RECIPES[name]()))
