"""Configs: precedence, and errors that name the key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tcgn_mil.config import as_plain, differing_keys, resolve_config, write_config
from tcgn_mil.errors import InputError


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    epochs: int = 10


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    genes: tuple[str, ...] = ()
    file: str | None = None
    training: Inner = field(default_factory=Inner)


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
    @dataclass(frozen=True)
    class Study(Outer):
        training: Inner = field(default_factory=lambda: Inner(lr=0.1, epochs=60))

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
        ("a: [1\n", "not valid YAML"),
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
