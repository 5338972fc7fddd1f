"""Shares of a prediction tile and encode their slides in one work folder, for one run of all."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict import from_slides
from tcgn_mil.experiments.predict.config import PredictConfig, SlideOptions
from tcgn_mil.experiments.predict.run import prepare_share
from tcgn_mil.io.failures import Failure, read_failures
from tcgn_mil.preprocessing.tiles.cohort import CohortTiles
from tcgn_mil.types.shards import Shard

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the model and the work by fakes; slide c cannot be encoded. Lists what was done."""
    done: list[str] = []
    info = SimpleNamespace(encoder="net-1")
    fakes: dict[str, Any] = {
        "find_slide_model": lambda model: SimpleNamespace(path=model),
        "open_encoder": lambda *_, **__: SimpleNamespace(identity="net-1"),
        "load_fold_models": lambda path: None,
        "models_for_encoder": lambda *_: [SimpleNamespace(info=info)],
        "_tile_settings": lambda *_, **__: (None, []),
        "slide_notes": lambda *_: [],
        "tile_cohort": lambda entries, *_, **__: CohortTiles([e.slide_id for e in entries], []),
    }

    def encode(slides: list[str], *_: Any, shard: Shard, **__: Any) -> Any:
        good = [slide for slide in slides if slide != "c" and shard.holds(slide)]
        done.extend(good)
        return good, [Failure(slide, "encode", "why") for slide in slides if slide == "c"]

    for name, fake in {**fakes, "encode_cohort": encode}.items():
        monkeypatch.setattr(from_slides, name, fake)
    return done


def options(folder: Path) -> SlideOptions:
    for name in NAMES:
        (folder / "slides").mkdir(exist_ok=True)
        (folder / "slides" / f"{name}.svs").touch()
    return SlideOptions(str(folder / "slides"))


def test_shares_cover_the_slides_and_meet_in_one_folder(tmp_path: Path, encoded: list[str]) -> None:
    out, slides = tmp_path / "out", options(tmp_path)
    for number in range(1, 8):  # some shares have no slide
        own = [name for name in NAMES if Shard(number, 7).holds(name)]
        done, failures = prepare_share(PredictConfig(), out, slides, Shard(number, 7))
        assert sorted([*done, *(failure.slide for failure in failures)]) == own
    assert sorted(encoded) == ["a", "b", "d", "e"]
    assert [row.slide for row in read_failures(out)] == ["c"]
    (tmp_path / "slides" / "new.svs").touch()  # a slide that is added belongs to one share
    for number in range(1, 8):
        share = Shard(number, 7)
        done, _ = prepare_share(PredictConfig(), out, slides, share)
        assert ("new" in done) == share.holds("new")


def test_a_share_waits_for_the_marker_of_another_one(tmp_path: Path) -> None:
    """The folder of another share is there a moment before its marker."""
    work = tmp_path / "work"
    work.mkdir()

    def mark() -> None:
        time.sleep(0.3)
        (work / "slides.json").write_text('{"slides": ["a"]}')

    thread = threading.Thread(target=mark)
    thread.start()
    from_slides._claim_folder(work, ["a"], wait_s=20)
    thread.join()
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="not a work folder"):
        from_slides._claim_folder(tmp_path / "other", ["a"], wait_s=0.2)
