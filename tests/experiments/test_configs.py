"""Tests of the shipped config files: generated files are up to date, and recipes parse."""

from __future__ import annotations

import pytest

from tcgn_mil.config import as_plain, differing_keys, resolve_config
from tcgn_mil.experiments.shipped_configs import CONFIGS, FOLDER, shipped_configs
from tcgn_mil.experiments.spot_level.config import SpotConfig

RECIPES = {"spots_recipe": SpotConfig}  # they differ from the defaults on purpose


def test_every_config_file_is_generated_or_a_recipe() -> None:
    generated = {name.removesuffix(".yaml") for name in shipped_configs()}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*generated, *RECIPES}


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_generated_files_are_what_the_config_classes_say(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == shipped_configs()[name], "run python -m tcgn_mil.experiments.shipped_configs"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_generated_files_read_back_as_the_defaults(name: str) -> None:
    config_class = CONFIGS[name][0]
    assert resolve_config(config_class, yaml_path=FOLDER / f"{name}.yaml") == config_class()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_parse_and_change_something(name: str) -> None:
    recipe = resolve_config(RECIPES[name], yaml_path=FOLDER / f"{name}.yaml")
    assert differing_keys(as_plain(recipe), as_plain(RECIPES[name]()))
