"""The benchmark's measurements are of what they say they are; how fast anything is, no test asks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tcgn_mil.experiments.benchmarks import backbone, backbone_measures
from tcgn_mil.experiments.benchmarks.backbone_measures import measure


def ask(kind: str, *arguments: Any) -> Any:
    return measure({"kind": kind, "arguments": arguments, "device": "cpu", "threads": torch.get_num_threads()})


def test_operations_are_those_of_the_architecture() -> None:
    assert ask("gflop", "tcgn_ti") == pytest.approx(4.026, abs=0.001)
    assert ask("gflop", "resnet50") == pytest.approx(8.177, abs=0.001)


def test_time_is_that_of_the_call() -> None:
    calls = []

    def call() -> None:
        calls.append(torch.ones(3).sum())

    assert backbone_measures.seconds(call, "cpu") > 0
    assert len(calls) == backbone_measures.WARM_UPS + backbone_measures.REPEATS


@pytest.mark.parametrize("form", ["plain", "channels_last", "folded"])
def test_forms_are_the_same_network(form: str) -> None:
    expected = backbone_measures.forward_call("tcgn_tiny", "plain", "float32", 2, "cpu")()
    found = backbone_measures.forward_call("tcgn_tiny", form, "float32", 2, "cpu")()
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_training_step_trains() -> None:
    step = backbone_measures.TrainStep("tcgn_tiny", "plain", "float32", 2, "cpu")
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step()
    moved = [not torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_checkpointing_keeps_fewer_tensors() -> None:
    plain, checkpointed = (
        ask("memory", "tcgn_tiny", form, "float32", 4)["tensors_mb"] for form in ("plain", "checkpointed")
    )
    weights = sum(p.nbytes for p in backbone_measures.build("tcgn_tiny", "plain", "float32", "cpu").parameters())
    assert 3 * weights / 2**20 < checkpointed < 0.7 * plain


def test_an_unknown_measurement_is_refused() -> None:
    with pytest.raises(ValueError, match="no measurement speed"):
        ask("speed")


def test_the_table_gives_ratios_to_the_yardstick() -> None:
    found = {backbone.YARDSTICK: [1.0, 2.0, 4.0], "tcgn_ti": [0.5, 0.5, 1.0]}
    *_, first, second = backbone.table("Forward", found, 8)
    assert first == "| resnet50 float32 | 4.0 | 1.00 | 1.00 to 1.00 |"
    assert second == "| tcgn_ti | 16.0 | 4.00 | 2.00 to 4.00 |"
