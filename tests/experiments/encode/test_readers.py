"""Tiles that several processes read give the features of one thread, and a death costs one row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from painted_slides import paint_cohort

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode import readers
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.readers import check_shared_memory
from tcgn_mil.experiments.encode.run import encode_cohort, reader_count
from tcgn_mil.inference.batch_stream import encode_stream
from tcgn_mil.inference.tile_colour import colour_statistics_of
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.failures import read_failures
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.types.shards import Shard

HELPERS = Path(__file__).parents[2] / "helpers"
Usage = namedtuple("Usage", "total used free")


def settings(count: int) -> EncodeSettings:
    options = {"untrained": True}
    return EncodeSettings(
        "timm:resnet10t", batch_size=3, device="cpu", readers=count, encoder_options=options
    )


@pytest.mark.slow
def test_readers_change_no_feature_and_a_death_costs_one_slide(tmp_path: Path) -> None:
    """Slide B kills its process, slide d is damaged, and slide f has no tile file."""
    source = paint_cohort(tmp_path, "aBcdef")
    tiles, slides = tmp_path / "tiles", tmp_path / "slides"
    (tiles / "f.h5").unlink()
    (slides / "d.tiff").write_bytes((slides / "d.tiff").read_bytes()[:200])
    done, failures = encode_cohort(list("aBcdef"), source, settings(2), tmp_path / "two")
    assert done == ["a", "c", "e"]
    assert [failure.slide for failure in failures] == ["B", "d", "f"]
    assert "died again" in failures[0].reason
    healthy = TileSource({name: source.entries[name] for name in "ace"}, tiles)
    assert encode_cohort(["a", "c", "e"], healthy, settings(1), tmp_path / "one")[1] == []
    for name in "ace":
        one, two = (tmp_path / folder / f"{name}.h5" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("count", [1, 7, 64])
def test_every_batch_is_asked_for_once(count: int) -> None:
    for workers in (1, 2, 3):
        order = readers._order(count, 3, workers)
        assert sorted(order) == list(range(0, count, 3))


def test_colour_statistics_of_torch_are_those_of_the_reference() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (3, 9, 11, 3), dtype=np.uint8)
    patches[0] = 0  # no light at all
    found = colour_statistics_of(torch.from_numpy(patches)).numpy()
    assert np.allclose(found, colour_statistics(patches), atol=1e-5)


def test_features_come_in_order_with_their_tag_and_colours() -> None:
    encoder = open_encoder("timm:resnet10t", untrained=True)
    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    batches = [(pixels[:3], "first"), (pixels[3:], "second")]
    found = list(encode_stream(encoder, batches, device=torch.device("cpu"), colour_step_px=2))
    assert [batch.tag for batch in found] == ["first", "second"]
    assert [batch.features.shape[0] for batch in found] == [3, 2]
    assert np.allclose(
        np.concatenate([batch.colour for batch in found]),
        colour_statistics(pixels[:, ::2, ::2].numpy()),
        atol=1e-5,
    )


def test_a_cpu_needs_no_reader_and_a_gpu_takes_the_free_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tcgn_mil.experiments.encode.run.usable_cores", lambda: 9)
    assert reader_count(EncodeSettings(), torch.device("cpu")) == 1
    assert reader_count(EncodeSettings(), torch.device("cuda")) == 8
    assert reader_count(settings(3), torch.device("cuda")) == 3


def test_too_little_shared_memory_is_refused_before_a_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = paint_cohort(tmp_path, "a").find("a")
    check_shared_memory(tiles, 64, 2)
    monkeypatch.setattr(readers.shutil, "disk_usage", lambda _: Usage(100_000, 0, 0))
    with pytest.raises(InputError, match="2 readers need"):
        check_shared_memory(tiles, 64, 2)


def test_shares_encode_every_slide_once_and_list_all_failures(tmp_path: Path) -> None:
    source = paint_cohort(tmp_path, "abcd")
    (tmp_path / "tiles" / "b.h5").unlink()
    done = [
        encode_cohort(list("abcd"), source, settings(1), tmp_path / "out", shard=Shard(number, 2))
        for number in (1, 2)
    ]
    assert sorted(slide for part, _ in done for slide in part) == ["a", "c", "d"]
    assert all(part or failures for part, failures in done)
    assert [failure.slide for failure in read_failures(tmp_path / "out")] == ["b"]


READ_AND_WAIT = """
import sys, time
from painted_slides import paint_cohort
from tcgn_mil.experiments.encode.readers import read_ahead
if __name__ == "__main__":
    source = paint_cohort(__import__("pathlib").Path(sys.argv[1]), "a")
    read = read_ahead(source, [source.find("a")], readers=1, batch_size=1, dropped=set())
    next(read)
    print("read", flush=True)
    time.sleep(600)
"""


def test_readers_end_when_the_command_is_killed(tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text(READ_AND_WAIT)
    path = os.pathsep.join([str(HELPERS.parent.parent), str(HELPERS)])
    command = subprocess.Popen(
        [sys.executable, tmp_path / "wait.py", tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"read\n"
    command.kill()
    # The readers hold the other end of the pipe, which ends with the last of them.
    assert command.communicate(timeout=60)[0] == b""
