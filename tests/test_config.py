"""Tests of configs: precedence, declarations, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from tcgn_mil.config import (
    as_plain,
    commented_yaml,
    config_class,
    describe_key,
    differing_keys,
    resolve_config,
    write_config,
)
from tcgn_mil.errors import InputError


@config_class
class Inner:
    lr: float = Field(1e-3, gt=0, description="Learning rate.")
    epochs: int = Field(10, ge=1, description="Passes over the data.")


@config_class
class Outer:
    name: str = "a"
    genes: tuple[str, ...] = ()
    file: str | None = None
    training: Inner = Field(default_factory=Inner)


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("name: b\ntraining:\n  lr: 0.5\n")
    return path


def test_default_then_yaml_then_override(yaml_file: Path) -> None:
    config = resolve_config(
        Outer, yaml_path=yaml_file, overrides=["training.epochs=3", "genes=[X, Y]"]
    )
    assert config == Outer(name="b", genes=("X", "Y"), training=Inner(lr=0.5, epochs=3))
    assert (
        resolve_config(Outer, yaml_path=yaml_file, overrides=["training.lr=3e-4"]).training.lr
        == 3e-4
    )


def test_a_section_given_in_part_keeps_the_rest_of_its_own_default(yaml_file: Path) -> None:
    @config_class
    class Study(Outer):
        training: Inner = Field(default_factory=lambda: Inner(lr=0.1, epochs=60))

    assert resolve_config(Study, overrides=["training.lr=0.2"]).training == Inner(lr=0.2, epochs=60)
    assert resolve_config(Study, yaml_path=yaml_file).training == Inner(lr=0.5, epochs=60)


def test_written_config_reads_back(tmp_path: Path) -> None:
    config = Outer(name="µ", genes=("X",), training=Inner(epochs=7))
    write_config(tmp_path / "out.yaml", config)
    assert resolve_config(Outer, yaml_path=tmp_path / "out.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lrr=1", "unknown config key 'training.lrr'.*did you mean 'lr'"),
        ("trainin.lr=1", "unknown config key 'trainin.lr'.*did you mean 'training'"),
        ("training.epochs=many", "'training.epochs' is 'many'"),
        ("training.lr", "is not key=value"),
        ("name=[1", "not a YAML value"),
    ],
)
def test_bad_overrides_name_the_key(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_config(Outer, overrides=[override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: b\n", "unknown config key 'nam'.*did you mean 'name'"),
        ("training: 3\n", "'training' is a section"),
        ("- a\n", "holds no mapping"),
        ("a: [1\n", "as valid YAML"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        resolve_config(Outer, yaml_path=path)
    assert "bad.yaml" in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such config file"):
        resolve_config(Outer, yaml_path="nowhere.yaml")


def test_differences_are_named_by_dotted_key() -> None:
    first, second = as_plain(Outer()), as_plain(Outer(name="b", training=Inner(lr=1.0)))
    assert differing_keys(first, second) == ["name", "training.lr"]
    assert differing_keys(first, first) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "'lr' is 0.0. Fix: give a value that is above 0"),
        ({"epochs": 0}, "'epochs' is 0. Fix: give a value that is at least 1"),
        ({"epochs": "many"}, "'epochs' is 'many'. Fix: give a whole number"),
        ({"lr": float("inf")}, "'lr' is inf. Fix: give a finite number"),
        ({"lr": float("nan")}, "'lr' is nan. Fix: give a"),
        ({"epoch": 3}, "unknown config key 'epoch'. Fix: did you mean 'epochs'"),
    ],
)
def test_values_are_checked_where_a_config_is_made(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Inner(**values)


def test_a_wrong_value_in_a_section_is_named_by_its_dotted_key() -> None:
    with pytest.raises(InputError, match=r"'training\.epochs' is 0\. Fix: .* at least 1"):
        resolve_config(Outer, overrides=["training.epochs=0"])


def test_a_key_is_described_with_its_bounds() -> None:
    assert describe_key(Outer, "training.lr") == "Learning rate. Must be above 0."
    assert "Passes over the data. Must be at least 1." in (Inner.__doc__ or "")


def test_commented_yaml_reads_back_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "defaults.yaml"
    path.write_text(commented_yaml(Outer, title="All keys."), encoding="utf-8")
    assert "  # Learning rate. Must be above 0.\n  lr: 0.001\n" in path.read_text()
    assert resolve_config(Outer, yaml_path=path) == Outer()


def test_paths_are_kept_as_text() -> None:
    config = Outer(file=Path("a") / "b.csv", genes=(Path("X"),))
    assert (config.file, config.genes) == ("a/b.csv", ("X",))


def test_a_key_of_a_section_is_suggested_with_its_section() -> None:
    with pytest.raises(InputError, match=r"'epochs'. Fix: did you mean 'training\.epochs'"):
        resolve_config(Outer, overrides=["epochs=3"])


def test_a_number_where_a_file_is_expected_is_answered_with_what_the_key_is() -> None:
    from tcgn_mil.experiments.slide_level.config import FinetuneConfig

    with pytest.raises(InputError) as error:
        resolve_config(FinetuneConfig, overrides=["cohort=c.h5ad", "folds=2"])
    assert error.value.reason == "config key 'folds' is 2"
    assert error.value.fix.startswith("give text (Folds to use: a CSV file with the columns fold")
