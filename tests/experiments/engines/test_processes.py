"""Devices share the slides, open their encoder once, and survive the death of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_tasks import Doubler
from painted_slides import paint_cohort

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.engines import engine as engines
from tcgn_mil.experiments.engines.crew import Ended, share_out
from tcgn_mil.experiments.engines.engine import Engine, choose_engine, parse_devices
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.parallel import Outcome
from tcgn_mil.settings.encoder import EncoderOptions


def opened(folder: Path) -> int:
    return len(list(folder.glob("opened-*")))


def test_a_death_costs_its_own_item_alone_and_a_second_try_may_succeed(tmp_path: Path) -> None:
    items = [1, 2, -3, 0, 5]
    two = Engine(devices=("first", "second"))
    outcomes = list(two.run(Doubler(tmp_path), items, out_dir=tmp_path, uses_gpu=False))
    found = {outcome.index: (outcome.result, outcome.died) for outcome in outcomes}
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[2] == (None, True)
    assert [found[index][0][1] for index in (0, 1, 3, 4)] == [2, 4, 0, 10]
    assert {found[index][0][0] for index in (0, 1, 3, 4)} == {"first", "second"}
    assert 2 + 1 <= opened(tmp_path) <= 2 + 3  # one more for each death that was followed by work


@pytest.mark.parametrize(("device", "item"), [("broken", 1), ("cpu", 100)])
def test_errors_end_the_run_as_they_were(tmp_path: Path, device: str, item: int) -> None:
    one = Engine(devices=(device,))
    with pytest.raises(InputError, match="Fix: give"):
        list(one.run(Doubler(tmp_path), [item], out_dir=tmp_path, uses_gpu=False))


class DyingCrew:
    """Workers that die with their first item and are not replaced."""

    size = 2

    def __init__(self) -> None:
        self.running: list[int] = []

    def start(self, worker: int, item: object) -> None:
        self.running.append(worker)

    def wait(self) -> list[Ended]:
        return [Ended(self.running.pop(), died=True)]

    def replace(self, worker: int) -> bool:
        return False


def test_a_run_whose_workers_are_all_gone_ends() -> None:
    outcomes = list(share_out(["a", "b", "c"], DyingCrew()))
    assert {outcome.reason for outcome in outcomes} == {"all workers died before its turn"}
    assert sorted(outcome.index for outcome in outcomes) == [0, 1, 2]


def settings() -> EncodeSettings:
    options = EncoderOptions(untrained=True)
    return EncodeSettings("timm:resnet10t", device="cpu", encoder_options=options)


@pytest.mark.slow
def test_files_do_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    source = paint_cohort(tmp_path, "ab")
    two = Engine(devices=("cpu", "cpu"))
    for folder, engine in (("here", Engine()), ("two", two)):
        told = encode_cohort(["a", "b"], source, settings(), tmp_path / folder, engine=engine)
        assert told == (["a", "b"], [])
    for name in "ab":
        here, there = (tmp_path / folder / f"{name}.h5" for folder in ("here", "two"))
        assert here.read_bytes() == there.read_bytes()


class LosingEngine(Engine):
    """The process of the first slide dies, and no worker is left for the second."""

    def run(self, *_: Any, **__: Any) -> Iterator[Outcome[Any]]:
        yield Outcome(0, None, died=True)
        yield Outcome(1, None, reason="the machine far does not see /slides")


def test_slides_that_were_lost_get_a_row(tmp_path: Path) -> None:
    losing, source = LosingEngine(devices=("cpu",)), TileSource({}, tmp_path)
    done, failures = encode_cohort(["a", "b"], source, settings(), tmp_path, engine=losing)
    assert done == []
    assert "died twice" in failures[0].reason
    assert failures[1].reason == "the machine far does not see /slides"
    assert "mount the slides" in failures[1].likely_fix


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "usable_cores", lambda: 2)
    assert parse_devices("cpu:2") == ("cpu", "cpu")
    with pytest.raises(InputError, match=r"may use 2 cores. Fix: give --devices cpu:2"):
        parse_devices("cpu:3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert parse_devices("0, 1") == ("cuda:0", "cuda:1")
    with pytest.raises(InputError, match="there is no device cuda:2"):
        parse_devices("0,1,2")
    for text in ("0,0", "tpu", "", "cpu:0", "cpu,0"):
        with pytest.raises(InputError, match="--devices"):
            parse_devices(text)


def test_options_without_effect_are_refused() -> None:
    assert choose_engine() == Engine()
    assert choose_engine("ray", devices="cpu:99") == Engine("ray", ("cpu",) * 99)
    with pytest.raises(InputError, match="--address without --engine ray"):
        choose_engine(address="1.2.3.4:5")
    with pytest.raises(InputError, match="choose local or ray"):
        choose_engine("dask")
    with pytest.raises(InputError, match="Ray itself chooses"):
        choose_engine("ray", devices="0,1")
