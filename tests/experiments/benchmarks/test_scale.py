"""The benchmark of scale measures what it says; no test checks a speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.benchmarks.scale import chain, metadata, peer, plan
from tcgn_mil.experiments.benchmarks.scale.figure import draw_chain
from tcgn_mil.experiments.benchmarks.scale.many_slides import make_metadata
from tcgn_mil.experiments.benchmarks.scale.metadata_parts import PARTS
from tcgn_mil.experiments.benchmarks.scale.process_cost import cost_of
from tcgn_mil.preprocessing.slides.table import find_slides


def test_memory_and_time_of_child_processes_count(tmp_path: Path) -> None:
    child = "import time; held = b'x' * (200 << 20); time.sleep(0.5); sum(range(3_000_000))"
    script = (
        "import subprocess, sys;"
        f"running = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)];"
        "[each.wait() for each in running]"
    )
    cost = cost_of([sys.executable, "-c", script], tmp_path / "log")
    assert cost.peak_mib > 400  # of two children, which hold 200 each
    assert 0.05 < cost.cpu_s < 60
    assert cost.wall_s > 0.5


def test_a_fork_with_the_memory_of_its_parent_counts_once(tmp_path: Path) -> None:
    script = (
        "import os, time; held = b'x' * (200 << 20); child = os.fork(); time.sleep(0.5);"
        "child and os.wait()"
    )
    assert cost_of([sys.executable, "-c", script], tmp_path / "log").peak_mib < 300


def test_a_command_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="status 3"):
        cost_of([sys.executable, "-c", "import sys; print('said'); sys.exit(3)"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "said\n"


def test_the_slides_of_a_chain_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SIDE_UM", 150.0)
    chain.make_cohort(tmp_path, 3, genes=4)
    entries = find_slides(tmp_path / "slides")
    assert len({entry.digest() for entry in entries}) == 3
    assert len({entry.patient_id for entry in entries}) == 3
    assert set(chain.stage_commands(tmp_path, "timm:resnet10t")) == set(chain.STAGES)


def test_the_figure_has_every_stage(tmp_path: Path) -> None:
    sizes = {
        str(count): {"wall_s": 1.0, "cpu_s": count / 10, "peak_mib": 100.0} for count in (2, 4)
    }
    measured = {stage: {"sizes": sizes, **chain.growth(sizes)} for stage in chain.STAGES}
    assert measured["tile"]["cpu_s_of_a_slide"] == {"2 to 4": pytest.approx(0.1)}
    draw_chain(measured, tmp_path / "chain.png")
    values = (tmp_path / "chain_figure.csv").read_text()
    assert all(values.count(stage) == 2 for stage in chain.STAGES)


def test_made_files_are_those_of_finished_stages(tmp_path: Path) -> None:
    make_metadata(tmp_path, 3, genes=2)
    assert {name: part(tmp_path) for name, part in PARTS.items()} == dict.fromkeys(PARTS, 3)
    assert set(metadata.verbs(tmp_path)) == {"join (bulk)", "tile, all done", "encode, all done"}


def test_the_plan_scales_with_slides_and_shares_cores() -> None:
    unit = plan.UnitCosts()
    small, large = plan.stages(1000, unit), plan.stages(2000, unit)
    for one, two in zip(small, large, strict=True):
        assert two.core_hours == pytest.approx(2 * one.core_hours)
    encode = next(each for each in small if each.stage == "encode, uni2-h")
    assert encode.hours(100) == pytest.approx(encode.core_hours / 100)
    assert encode.core_hours == pytest.approx(1000 * 150 * 86 * 5.76 / 3600)
    assert small[-1].hours(2000) == pytest.approx(small[-1].core_hours / 2)


def test_operations_of_an_encoder_are_counted() -> None:
    assert 8 < plan.gigaflops("kaiko-vits16") < 10  # timm states 4.6 billion multiply-adds


def test_rounds_beside_a_peer_are_compared_for_the_same_number_of_tiles() -> None:
    rounds = [
        {"tiles": tiles, **{part: {"cpu_s": seconds} for part in peer.PARTS}}
        for tiles, seconds in ((500, 2.0), (1000, 6.0))
    ]
    medians = peer.per_1000(rounds)
    assert medians["start"] == 4.0
    assert medians["features"] == 5.0
