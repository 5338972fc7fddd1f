"""The files of ``predict --slides`` do not depend on who tiles and encodes the slides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from changing_slides import ask, paint, write_encoder, write_slide_model
from ray_nodes import two_nodes

from tcgn_mil.types.shards import Shard

# Files that state times, digests of files by their times, and keys of the folder.
_OF_THE_RUN = {"log.jsonl", "inputs.json", "cohort.json"}
Predict = Callable[..., dict[str, bytes]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Make slides, an encoder and a slide model; return the command that predicts."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(("S1", "S2", "S3", "S4")):
        paint(folder / "slides" / f"{name}.tiff", seed)
    encoder = write_encoder(folder / "encoder")
    model = write_slide_model(folder / "model", encoder)
    given = ["--model", model, "--slides", folder / "slides", "--encoder", encoder]
    # A relative folder, because the path of the features stands in the files.
    return ["predict", *given, "--keep-features", "--out", "out"]


@pytest.fixture
def predict(inputs: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Run commands, each with further options, in an empty folder; return the files."""

    def run(name: str, *commands: tuple[object, ...]) -> dict[str, bytes]:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for options in commands:
            answer = ask(*inputs, *options)
            assert answer.code == 0, answer.err
        files = sorted(path for path in Path("out").rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files if path.name not in _OF_THE_RUN}

    return run


@pytest.fixture
def of_one_process(predict: Predict) -> dict[str, bytes]:
    files = predict("one", ())
    assert {"out/predicted.h5ad", "out/summary.json", "out/work/features/S4.h5"} <= files.keys()
    return files


def differing(files: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    names = sorted(files.keys() | expected.keys())
    return [name for name in names if files.get(name) != expected.get(name)]


@pytest.mark.slow
def test_shares_and_processes(predict: Predict, of_one_process: dict[str, bytes]) -> None:
    held = [sum(Shard(number, 2).holds(f"S{index}") for index in range(1, 5)) for number in (1, 2)]
    assert 0 not in held
    assert differing(predict("two", ("--devices", "cpu:2")), of_one_process) == []
    shares = ("--shard", "1/2"), ("--shard", "2/2", "--devices", "cpu:1"), ()
    assert differing(predict("shares", *shares), of_one_process) == []


@pytest.mark.slow
def test_a_cluster_of_ray(predict: Predict, of_one_process: dict[str, bytes]) -> None:
    with two_nodes() as cluster:
        options = ("--engine", "ray", "--address", cluster.address)
        assert differing(predict("ray", options), of_one_process) == []
