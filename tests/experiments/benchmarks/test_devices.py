"""The benchmarks of readers and of a GPU run, and measure what they say; no speed is tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tcgn_mil.experiments.benchmarks.devices import gpu
from tcgn_mil.experiments.benchmarks.devices.readers import SleepingEncoder, tiles_of
from tcgn_mil.inference.batch_stream import encode_stream
from tcgn_mil.io.pyramid import write_pyramid


def test_the_encoder_takes_the_set_time_for_each_tile() -> None:
    pixels = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    slow = SleepingEncoder(nn.Identity(), "sleep", None, cost_s=0.01)
    batches = iter([(pixels, None)] * 5)
    assert 0 < gpu._rate(batches, 1, slow, "cpu") <= 100
    (batch,) = encode_stream(slow, [(pixels, "tag")], device=torch.device("cpu"))
    assert batch.features.shape == (4, 768)


def test_tiles_are_laid_several_times_over(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tiff", np.full((400, 400, 3), 200, np.uint8), mpp=0.69)
    once, twice = (tiles_of(tmp_path / "a.tiff", times) for times in (1, 2))
    assert len(twice) == 2 * len(once) > 0


def test_all_parts_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "forward_rates", lambda *_: {"net float32": 10.0})
    monkeypatch.setattr(gpu, "training_rates", lambda *_: {"net float32": 5.0})
    monkeypatch.setattr(gpu, "machine", lambda _: {})
    monkeypatch.setattr(gpu, "parity", lambda *_: 0.0)
    monkeypatch.setattr(gpu, "published_rate", lambda *_: 1.0)

    def too_large(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("no room\nmore")

    monkeypatch.setattr(gpu, "encoding", too_large)
    results = gpu.run(tmp_path, device="cpu", sizes=gpu.SMALL, published="a:b")
    assert results["encoding"] == "out of memory: no room"
    assert gpu.table(results).splitlines()[2:] == [
        "| forward: net float32 | 10 |",
        "| training: net float32 | 5 |",
        "| forward: published | 1 |",
    ]
