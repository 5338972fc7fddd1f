"""Whatever one slide or patient does to encoding or prediction costs its own rows only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slides_in_memory import FakeSource

from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.predict import patients as prediction
from tcgn_mil.io.failures import read_failures
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.types.tiles import TileSet


def fail_on_second(tiles: TileSet) -> TileSet:
    if tiles.slide_id == "P02-1":
        raise ZeroDivisionError("division by zero")
    return tiles


def test_a_slide_that_raises_anything_is_a_row_of_encode(tmp_path: Path) -> None:
    settings = EncodeSettings(
        "timm:resnet10t",
        device="cpu",
        allow_other_size=True,
        encoder_options=EncoderOptions(untrained=True),
    )
    source = FakeSource(fail_on_second)
    done, failures = encode_cohort(["P01-1", "P02-1", "P03-1"], source, settings, tmp_path)
    assert done == ["P01-1", "P03-1"]
    assert read_failures(tmp_path) == failures
    assert failures[0].slide == "P02-1"
    assert "not foreseen: ZeroDivisionError: division by zero" in failures[0].reason


def test_a_patient_that_raises_anything_is_a_row_of_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(patient: str, *_: Any) -> str:
        if patient == "P2":
            raise MemoryError("no memory left")
        return patient

    def group(*_: Any, **__: Any) -> tuple[dict[str, list[Path]], list[Any]]:
        return {"P1": [tmp_path / "a.h5"], "P2": [tmp_path / "b.h5"]}, []

    monkeypatch.setattr(prediction, "predict_patient", predict)
    monkeypatch.setattr(prediction, "slides_by_patient", group)
    model: Any = SimpleNamespace(models=[], patient_of={}, panel=None, reference=None)
    predictions, failures = prediction.predict_patients(model, {})
    assert list(predictions) == ["P1"]
    assert [(failure.slide, failure.stage) for failure in failures] == [("b", "predict")]
    assert "MemoryError: no memory left" in failures[0].reason
