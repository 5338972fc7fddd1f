"""Actors of a real Ray cluster of two nodes give the files of this process and survive a death."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_tasks import Doubler
from painted_slides import paint_cohort
from ray_nodes import two_nodes

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.engines import ray_cluster
from tcgn_mil.experiments.engines.engine import Engine
from tcgn_mil.preprocessing.parallel import Outcome
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.settings.encoder import EncoderOptions


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


def engine(cluster: Any, *devices: str) -> Engine:
    return Engine("ray", devices, cluster.address)


def doubled(cluster: Any, folder: Path, items: list[int]) -> dict[int, Outcome[Any]]:
    """Double numbers by both nodes."""
    both = engine(cluster, "cpu", "cpu")
    outcomes = both.run(Doubler(folder), items, out_dir=folder, uses_gpu=True)
    return {outcome.index: outcome for outcome in outcomes}


@pytest.mark.slow
def test_a_death_costs_its_own_item_alone(cluster: Any, tmp_path: Path) -> None:
    found = doubled(cluster, tmp_path, [1, -2, 0, 4])
    assert sorted(found) == [0, 1, 2, 3]
    assert found[1].died
    assert [found[index].result for index in (0, 2, 3)] == [("cpu", 2), ("cpu", 0), ("cpu", 8)]
    assert not list(tmp_path.glob(".ray-*"))
    with pytest.raises(InputError, match="too large"):
        doubled(cluster, tmp_path, [100])


@pytest.mark.slow
def test_files_are_those_of_this_process(cluster: Any, tmp_path: Path) -> None:
    source = paint_cohort(tmp_path, "abC")
    options = EncoderOptions(untrained=True)
    settings = EncodeSettings("timm:resnet10t", device="cpu", encoder_options=options)
    (tmp_path / "tiles" / "b.h5").unlink()
    done, failures = encode_cohort(
        ["a", "b", "C"], source, settings, tmp_path / "ray", engine=engine(cluster)
    )
    assert done == ["a"]
    assert [failure.slide for failure in failures] == ["b", "C"]
    assert "died twice" in failures[1].reason
    assert encode_cohort(["a"], source, settings, tmp_path / "here")[1] == []
    assert (tmp_path / "ray" / "a.h5").read_bytes() == (tmp_path / "here" / "a.h5").read_bytes()
    tiled = tile_cohort(
        [source.entries["a"]],
        TileSettings(),
        tmp_path / "tiled",
        run=engine(cluster).run_tiling,
    )
    here = tile_cohort([source.entries["a"]], TileSettings(), tmp_path / "tiled-here")
    assert tiled == here


@pytest.mark.slow
def test_a_node_without_the_slides_gets_no_more_of_them(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["WITHOUT_SLIDES"] = "1"  # an actor inherits it from its node
    try:
        lonely = cluster.add_node(num_cpus=1, resources={"lonely": 1})
    finally:
        del os.environ["WITHOUT_SLIDES"]
    three = engine(cluster, "cpu", "cpu", "cpu")
    items = list(range(1, 9))
    outcomes = three.run(Doubler(tmp_path), items, out_dir=tmp_path, uses_gpu=False)
    assert sorted(outcome.result[1] for outcome in outcomes) == [2 * item for item in items]
    assert "does not see /nowhere" in capsys.readouterr().err
    cluster.remove_node(lonely)


@pytest.mark.slow
def test_fewer_cores_than_asked_for_are_refused(cluster: Any, tmp_path: Path) -> None:
    many = engine(cluster, *["cpu"] * 9)
    with pytest.raises(InputError, match="this run needs 9 free CPUs"):
        list(many.run(Doubler(tmp_path), [1] * 9, out_dir=tmp_path, uses_gpu=False))


def test_an_address_that_does_not_answer_is_one_line_within_seconds() -> None:
    pytest.importorskip("ray")
    start = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster answers"):
        ray_cluster.connect("127.0.0.1:9")
    with pytest.raises(InputError, match="is not host:port"):
        ray_cluster.connect("head")
    assert time.monotonic() - start < 2 * ray_cluster.ANSWER_S


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'tcgn-mil\[ray\]'"):
        ray_cluster.connect("auto")
