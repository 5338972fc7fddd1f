"""Encoding in batches equals encoding at once, large bags fit, and errors name their cause."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from numpy.typing import NDArray
from torch import nn

from tcgn_mil.batches.augment import views
from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.batches.loading import prefetch
from tcgn_mil.checkpoints import EncoderInfo, save_encoder
from tcgn_mil.checkpoints.file_format import ENCODER
from tcgn_mil.checkpoints.published import write_digests
from tcgn_mil.checkpoints.starting import start_from
from tcgn_mil.errors import InputError
from tcgn_mil.inference import slides
from tcgn_mil.inference.batch_stream import encode_tiles
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.inference.spots import predict_spots, spot_features
from tcgn_mil.inference.tile_encoder import TileEncoder, open_encoder
from tcgn_mil.models import create_encoder, create_model, encoder_features
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput, to_network_input
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize

CPU = torch.device("cpu")
PATCH = PatchSize(112, 0.69)


class ColourModel(nn.Module):
    """A model whose features are the mean colour and its square."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)  # shows a model that was left in training mode

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colour = self.dropout(images.mean(dim=(2, 3)) * self.scale)
        return torch.cat([colour, colour.square()], dim=1)


def tiles(count: int, px: int = 16) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, px, px, 3), dtype=np.uint8)
    return pixels, rng.integers(0, 10_000, (count, 2))


def cut(count: int, size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    pixels, coords = tiles(count)
    for start in range(0, count, size):
        yield pixels[start : start + size], coords[start : start + size]


@pytest.fixture
def toy() -> TileEncoder:
    return TileEncoder(ColourModel().train(), "toy-0", PATCH, TCGN_INPUT._replace(size_px=32))


def test_batches_of_any_size_give_the_same_features_in_order(toy: TileEncoder) -> None:
    whole, coords = encode_tiles(toy, cut(10, 10), device=CPU, dtype=np.float32)
    parts, part_coords = encode_tiles(toy, cut(10, 3), device=CPU, dtype=np.float32)
    assert whole.shape == (10, 6)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    np.testing.assert_array_equal(coords, tiles(10)[1])
    np.testing.assert_array_equal(coords, part_coords)
    pixels = torch.from_numpy(tiles(10)[0])
    images = to_network_input(pixels, TCGN_INPUT._replace(size_px=32))
    expected = ColourModel().eval()(images).detach().numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-6)


def test_features_are_float16_unless_asked(toy: TileEncoder) -> None:
    assert encode_tiles(toy, cut(3, 3), device=CPU)[0].dtype == np.float16


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_precision_is_close_to_float32(toy: TileEncoder, precision: str) -> None:
    exact, _ = encode_tiles(toy, cut(4, 4), device=CPU, dtype=np.float32)
    found, _ = encode_tiles(toy, cut(4, 4), device=CPU, precision=precision, dtype=np.float32)
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_what_cannot_be_encoded_is_refused(toy: TileEncoder) -> None:
    with pytest.raises(InputError, match="no tile to encode"):
        encode_tiles(toy, iter(()), device=CPU)
    with pytest.raises(InputError, match="precision is '8-bit'"):
        encode_tiles(toy, cut(1, 1), device=CPU, precision="8-bit")
    maps = TileEncoder(nn.Conv2d(3, 4, 3), "maps-0", None, EncoderInput(32, MEAN, STD))
    with pytest.raises(
        InputError, match=r"encoder maps-0 gives features of shape \(2, 4, 30, 30\)"
    ):
        encode_tiles(maps, cut(2, 2), device=CPU)


def test_a_pretrained_encoder_gives_its_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("tcgn_tiny", num_classes=2).eval()
    scaler = TargetScaler("log1p", np.zeros(2, np.float32), np.ones(2, np.float32))
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, model, EncoderInfo("tcgn_tiny", GenePanel(("A", "B")), scaler, PATCH))
    encoder = open_encoder(str(path))
    pixels = torch.from_numpy(tiles(2, 112)[0])
    with torch.inference_mode():
        last_map = model.forward_features(to_network_input(pixels))
        assert torch.equal(encoder.features(pixels), model.forward_head(last_map, pre_logits=True))
    assert encoder.identity.startswith("tcgn_tiny-")
    assert encoder.identity == open_encoder(str(path)).identity
    assert encoder.patch == PATCH


MEAN, STD = (0.5, 0.6, 0.7), (0.2, 0.3, 0.4)


@pytest.fixture
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return create_encoder("resnet10t", 2).eval()


def test_a_checkpoint_of_a_timm_model_is_given_its_own_input(
    tmp_path: Path, resnet: nn.Module
) -> None:
    scaler = TargetScaler("log1p", np.zeros(2, np.float32), np.ones(2, np.float32))
    info = EncoderInfo(
        "resnet10t", GenePanel(("A", "B")), scaler, PATCH, input_spec=EncoderInput(64, MEAN, STD)
    )
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, resnet, info)
    encoder = open_encoder(str(path))
    assert (encoder.input_spec, encoder.patch) == (EncoderInput(64, MEAN, STD), PATCH)
    assert encoder.identity.startswith("resnet10t-")
    found, _ = encode_tiles(encoder, cut(3, 2), device=CPU, dtype=np.float32)
    own_input = {"input_spec": EncoderInput(64, MEAN, STD)}
    expected = spot_features(resnet, tiles(3)[0], batch_size=3, **own_input)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with torch.inference_mode():
        images = to_network_input(torch.from_numpy(tiles(3)[0]), EncoderInput(64, MEAN, STD))
        np.testing.assert_allclose(found, encoder_features(resnet, images), atol=1e-6)
        np.testing.assert_allclose(
            predict_spots(resnet, tiles(3)[0], batch_size=2, **own_input), resnet(images), atol=1e-6
        )


@pytest.mark.parametrize("count", [4, 8])
def test_views_are_averaged(resnet: nn.Module, count: int) -> None:
    patches = tiles(5)[0]
    own_input = {"input_spec": EncoderInput(32, MEAN, STD), "batch_size": 2}
    for of_spots in (predict_spots, spot_features):
        seen = [
            of_spots(resnet, view.numpy(), **own_input)
            for view in views(torch.from_numpy(patches), count)
        ]
        found = of_spots(resnet, patches, views=count, **own_input)
        np.testing.assert_allclose(found, np.mean(seen, axis=0), atol=1e-6)
        assert np.abs(found - seen[0]).max() > 1e-3
        turned = np.rot90(patches, axes=(1, 2))
        np.testing.assert_allclose(
            of_spots(resnet, turned, views=count, **own_input), found, atol=1e-6
        )


def test_a_timm_encoder_is_always_the_same_and_leaves_seeds_alone() -> None:
    torch.manual_seed(5)
    first = open_encoder("timm:resnet10t", untrained=True)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
    assert first.identity == open_encoder("timm:resnet10t", untrained=True).identity
    assert first.identity.startswith("untrained:timm:resnet10t-")
    assert first.patch is None
    features, _ = encode_tiles(first, cut(2, 2), device=CPU)
    assert features.shape == (2, 512)


def test_unknown_encoders_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"timm has no model 'resnet10'.* did you mean .*resnet10t"
    ):
        open_encoder("timm:resnet10")
    with pytest.raises(InputError, match=r"which weights resnet10t .* --pretrained .* --untrained"):
        open_encoder("resnet10t")
    with pytest.raises(InputError, match="no such encoder checkpoint"):
        open_encoder("encoder.safetensors")
    with pytest.raises(InputError, match="no weights of tcgn_tiny to download"):
        open_encoder("timm:tcgn_tiny", pretrained=True)


def test_spot_predictions_do_not_depend_on_the_batch_size() -> None:
    model = ColourModel().eval()
    patches = tiles(7)[0]
    found = predict_spots(model, patches, batch_size=3)
    assert found.shape == (7, 6)
    np.testing.assert_allclose(found, predict_spots(model, patches, batch_size=7), atol=1e-6)


def bag(count: int) -> Bag:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, 8)).astype(np.float32)
    return Bag(features, np.zeros((count, 2), np.int64), np.zeros(count, np.int64))


@pytest.fixture
def regressor() -> SlideRegressor:
    torch.manual_seed(0)
    return SlideRegressor(8, 5, MilConfig(embedding=6, heads=2)).eval()


@pytest.mark.parametrize("count", [1, 50])
def test_a_bag_in_chunks_equals_the_model_at_once(
    regressor: SlideRegressor, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    given = bag(count)
    features = torch.from_numpy(given.features)[None]
    with torch.inference_mode():
        whole = regressor(features, torch.ones(1, count, dtype=torch.bool), tile_genes=[3, 1])
    monkeypatch.setattr(slides, "_TILES_PER_CHUNK", 7)
    found = predict_bag(regressor, given, tile_genes=[3, 1])
    np.testing.assert_allclose(found.expression, whole.expression[0], atol=1e-6)
    np.testing.assert_allclose(found.attention, whole.attention[0].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.tile_expression, whole.tile_expression[0], atol=1e-6)


def test_a_bag_of_200_000_tiles_is_predicted(regressor: SlideRegressor) -> None:
    found = predict_bag(regressor, bag(200_000), tile_genes=[0])
    assert found.attention.sum() == pytest.approx(1, abs=1e-4)
    assert found.attention @ found.tile_expression[:, 0] == pytest.approx(
        found.expression[0], abs=1e-4
    )
    assert predict_bag(regressor, bag(3)).tile_expression.shape == (3, 0)


def test_reading_ahead_keeps_order() -> None:
    with prefetch(iter(range(100)), depth=3) as items:
        assert list(items) == list(range(100))
    with prefetch([], depth=3) as items:
        assert list(items) == []


def test_the_next_items_are_made_while_one_is_used() -> None:
    made = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        yield 1
        made.set()
        yield 2

    with prefetch(source(), depth=3) as items:
        assert next(items) == 0
        assert made.wait(timeout=10)  # although nobody has asked for 1 or 2


def test_no_more_than_the_depth_is_read_ahead() -> None:
    made = []

    def source() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    with prefetch(source(), depth=3) as items:
        next(items)
        time.sleep(0.1)
        assert len(made) <= 5


def test_an_error_in_the_source_is_raised_where_items_are_used() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise InputError("the slide is cut off", path="a.tiff")

    with prefetch(broken()) as items:
        assert next(items) == 1
        with pytest.raises(InputError, match=r"a\.tiff: the slide is cut off"):
            next(items)


def test_leaving_early_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    with prefetch(endless()) as items:
        next(items)
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_published_encoder_is_opened_wherever_an_encoder_is_named(
    tmp_path: Path, fake_hub: FakeHub
) -> None:
    """A checkpoint, its published folder and its repository are one encoder."""
    folder = tmp_path / "published"
    folder.mkdir()
    model = create_encoder("resnet10t", num_classes=2, input_px=64)
    scaler = TargetScaler("log1p", np.zeros(2, np.float32), np.ones(2, np.float32))
    spec = EncoderInput(64, MEAN, STD)
    info = EncoderInfo("resnet10t", GenePanel(("A", "B")), scaler, PATCH, input_spec=spec)
    save_encoder(folder / "encoder.safetensors", model, info)
    write_digests(folder, kind=ENCODER)
    fake_hub.add("owner/ours", folder)
    sources = [str(folder / "encoder.safetensors"), f"local-dir:{folder}", "hf-hub:owner/ours"]
    opened = [open_encoder(source) for source in sources]
    assert len({encoder.identity for encoder in opened}) == 1
    assert [encoder.record["source"] for encoder in opened] == [
        "encoder.safetensors",
        "published",
        "hf-hub:owner/ours",
    ]
    started = start_from("hf-hub:owner/ours", GenePanel(("A", "B")))
    head: Any = started.model.get_classifier()  # type: ignore[operator]
    assert torch.equal(head.weight, model.get_classifier().weight)  # type: ignore[operator]
    other = start_from("hf-hub:owner/ours", GenePanel(("A", "B", "C")))
    assert other.model.get_classifier().out_features == 3  # type: ignore[operator]
    with pytest.raises(InputError, match=r"is a checkpoint of this package.* remove pretrained"):
        start_from("hf-hub:owner/ours", None, pretrained=True)
