"""Test fine-tuning of an encoder with the loss of bags: gradients, sampling and prediction."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from slides_in_memory import (
    GENES,
    PATCH,
    PATIENTS,
    PX,
    SOURCE,
    TUNING,
    FakeSource,
    pixels_of,
    run_in_memory,
    tiles_of,
    write_cohort_of_encoder,
)

from tcgn_mil.batches.pixel_bags import PixelBags
from tcgn_mil.checkpoints import EncoderInfo, load_encoder, load_slide_model, save_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import publish
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import load_cohort
from tcgn_mil.experiments.slide_level.inputs.pixels import with_pixels
from tcgn_mil.experiments.slide_level.training import tune_encoder as encoder_tuning
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.models import end_to_end as bag_encoder
from tcgn_mil.models.encoders import create_encoder
from tcgn_mil.models.end_to_end import BagNetwork, trained_parameters
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

INPUT_SPEC = EncoderInput(PX, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    """Make a cohort of twelve patients, an encoder that was never trained, and its features."""
    folder = tmp_path_factory.mktemp("tuning")
    torch.manual_seed(0)
    model = create_encoder("resnet10t", num_classes=len(GENES), input_px=PX)
    scaler = TargetScaler(
        "log1p", np.zeros(len(GENES), np.float32), np.ones(len(GENES), np.float32)
    )
    info = EncoderInfo(
        "resnet10t", GenePanel(tuple(GENES)), scaler, PATCH, "library", input_spec=INPUT_SPEC
    )
    save_encoder(folder / "encoder.safetensors", model, info)
    settings = EncodeSettings(str(folder / "encoder.safetensors"))
    return write_cohort_of_encoder(folder, settings, encoder_train="last", tuning=TUNING)


@pytest.fixture(scope="module")
def tuned(
    config: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("tuned") / "run"
    return out, run_in_memory(config, out)


@pytest.mark.parametrize(
    ("name", "first", "kept"),
    [
        ("resnet10t", "layer4.", "layer3."),
        ("tcgn_tiny", "stages.3.", "stages.2."),
        ("vit_tiny_patch16_224", "blocks.11.", "blocks.10."),
    ],
)
@pytest.mark.parametrize("genes", [0, 7])
def test_the_last_stage_and_what_follows_it_trains(
    name: str, first: str, kept: str, genes: int
) -> None:
    encoder = create_encoder(name, num_classes=genes)
    names = [
        key for key, _ in create_encoder(name, num_classes=0).named_parameters()
    ]  # without what spots were read by
    last = trained_parameters(encoder, "last")
    assert {key for key in names if key.startswith(first)} <= last
    assert not {key for key in last if key.startswith(kept)}
    assert last >= {key for key in names if key.startswith(("final", "norm."))}
    assert trained_parameters(encoder, "all") == set(names)
    assert trained_parameters(encoder, "none") == set()


def network(which: bag_encoder.EncoderTrain) -> BagNetwork:
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", num_classes=3, input_px=PX)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(
                module.weight
            )  # timm starts the last of a block at 0, which lets no gradient through
    return BagNetwork(
        encoder,
        SlideRegressor(512, 3, MilConfig(embedding=8, attention_hidden=4, dropout=0.0)),
        INPUT_SPEC,
        which,
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two bags, of five tiles and of two."""
    pixels = torch.randint(
        0, 255, (2, 5, PX, PX, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 2:] = False
    return pixels, mask


@pytest.mark.parametrize("which", ["none", "last", "all"])
def test_gradients_reach_what_is_to_train_and_nothing_else(which: bag_encoder.EncoderTrain) -> None:
    net = network(which).train()
    before = {name: value.clone() for name, value in net.encoder.named_buffers()}
    net(*batch()).square().mean().backward()
    reached = {
        name
        for name, parameter in net.encoder.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert reached == trained_parameters(net.encoder, which)
    assert all(parameter.grad is not None for parameter in net.regressor.parameters())
    assert net.regressor.training
    assert all(torch.equal(value, before[name]) for name, value in net.encoder.named_buffers())


def test_checkpointing_in_chunks_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chunk, plain in ((2, False), (100, True)):
        monkeypatch.setattr(bag_encoder, "_TILES_PER_CHUNK", chunk)
        if plain:
            monkeypatch.setattr(bag_encoder, "checkpointed", bag_encoder.call)
        net = network("all").train()
        net(*batch()).square().mean().backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-6)


def _values_saved(net: BagNetwork) -> int:
    """Return the number of values that a forward pass saves for the backward pass."""
    saved: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(*batch())
    return sum(saved)


def test_only_a_chunks_activations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With checkpointing, little more than the pixels is saved for the backward pass."""
    sizes = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(bag_encoder, "checkpointed", bag_encoder.call)
        net = network("all").train()
        sizes.append(_values_saved(net))
    assert sizes[0] * 5 < sizes[1]


def test_rates_fall_with_depth_and_the_regressor_has_the_full_one() -> None:
    from tcgn_mil.training.optimizer import parameter_groups

    net = network("all")
    scale = {
        id(p): group["lr_scale"]
        for group in parameter_groups(net, 0.05, 0.5)
        for p in group["params"]
    }
    at = {name: scale[id(p)] for name, p in net.named_parameters() if p.requires_grad}
    assert at["regressor.head.weight"] == 1
    assert (
        at["encoder.layer4.0.conv1.weight"]
        > at["encoder.layer1.0.conv1.weight"]
        > at["encoder.conv1.0.weight"]
    )


def bags(patients: list[str]) -> PixelBags:
    tiles = {
        name: tuple(tiles_of(f"{name}-{k}") for k in ((1, 2) if name == "P00" else (1,)))
        for name in patients
    }
    return PixelBags(patients, tiles, SOURCE, np.zeros((len(patients), 2), np.float32), seed=1)


def test_samples_are_seeded_without_replacement_and_over_all_slides() -> None:
    one, other = bags(PATIENTS), bags(["P00", "P01"])
    first = one.sample("P00", 7, 0)
    assert first.shape == (7, PX, PX, 3)
    assert len({tile.tobytes() for tile in first}) == 7  # five tiles per slide, so both slides
    np.testing.assert_array_equal(first, other.sample("P00", 7, 0))  # whoever else is there
    assert not np.array_equal(first, one.sample("P00", 7, 1))
    assert len(one.sample("P01", 7, 0)) == 5


def test_an_epoch_has_every_patient_once_with_its_tiles_and_targets() -> None:
    dataset = bags(PATIENTS)
    dataset.targets = np.arange(len(PATIENTS), dtype=np.float32)[:, None]
    seen = []
    for part in dataset.epoch(3, batch_size=5, tiles=2):
        assert part.mask.all()
        for pixels, target in zip(part.pixels.numpy(), part.targets.numpy(), strict=True):
            name = PATIENTS[int(target[0])]
            own = {
                pixels_of(slide.slide_id, int(x)).tobytes()
                for slide in dataset.tiles[name]
                for x, _ in slide.coords
            }
            assert {tile.tobytes() for tile in pixels} <= own
            seen.append(name)
    assert sorted(seen) == PATIENTS
    again = [part.pixels for part in dataset.epoch(3, batch_size=5, tiles=2)]
    assert all(
        torch.equal(a, b.pixels)
        for a, b in zip(again, dataset.epoch(3, batch_size=5, tiles=2), strict=True)
    )


def test_a_fold_has_an_encoder_and_a_model_that_reads_its_features(
    tuned: tuple, config: FinetuneConfig
) -> None:
    out, summary = tuned
    table = pd.read_csv(out / "headline.csv").set_index("predictor")
    assert {"model", "frozen_encoder", "zero_shot", "untrained"} <= set(table.index)
    assert any("approximate" in label for label in summary["labels"])
    original = open_encoder(str(config.encoder)).identity
    tuned_folds = [k for k in range(3) if (out / f"encoder{k}.safetensors").is_file()]
    assert tuned_folds  # the encoder was random, so some fold gains
    for k in tuned_folds:
        info = load_slide_model(out / f"fold{k}.safetensors")[1]
        assert (
            info.encoder == open_encoder(str(out / f"encoder{k}.safetensors")).identity != original
        )
        for name in info.fold.test:
            assert (
                read_feature_info(out / "features" / f"fold{k}" / f"{name}-1.h5").encoder
                == info.encoder
            )
        trained, _ = load_encoder(out / f"encoder{k}.safetensors")
        start, _ = load_encoder(str(config.encoder))
        changed = {
            n for n, p in trained.named_parameters() if not torch.equal(p, start.get_parameter(n))
        }
        assert changed
        assert all(name.startswith("layer4.") for name in changed)


def test_prediction_takes_the_model_of_the_features_encoder(
    tuned: tuple, config: FinetuneConfig, tmp_path: Path
) -> None:
    out, _ = tuned
    k = next(k for k in range(3) if (out / f"encoder{k}.safetensors").is_file())
    predict(
        PredictConfig(str(out), str(out / "features" / f"fold{k}"), maps=False),
        tmp_path / "predicted",
    )
    found = anndata.read_h5ad(tmp_path / "predicted" / "predicted.h5ad")
    assert set(found.obs["relation"]) == {"out of fold"}
    # There are too few patients to tell, and the file says so.
    assert set(found.obs["ood_state"]) == {"unknown"}
    made = publish(PublishConfig(run=str(out)), tmp_path / "published").folder
    identity = open_encoder(str(out / f"encoder{k}.safetensors")).identity
    assert open_encoder(str(made / f"encoder{k}.safetensors")).identity == identity
    features = str(out / "features" / f"fold{k}")
    predict(PredictConfig(str(made), features, maps=False), tmp_path / "again")
    again = anndata.read_h5ad(tmp_path / "again" / "predicted.h5ad")
    np.testing.assert_array_equal(again.X, found.X)
    oof = anndata.read_h5ad(out / "out_of_fold.h5ad")
    np.testing.assert_allclose(found.X, oof[found.obs_names, found.var_names].X, atol=1e-5)
    if all((out / f"encoder{j}.safetensors").is_file() for j in range(3)):
        with pytest.raises(
            InputError, match=r"the model reads those of.*encoder<k>\.safetensors of the run"
        ):
            predict(PredictConfig(str(out), config.features, maps=False), tmp_path / "refused")


def test_a_fold_that_gains_nothing_keeps_the_frozen_model(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = iter(range(100))
    monkeypatch.setattr(encoder_tuning, "_score", lambda *_: -float(next(worse)))
    summary = run_in_memory(config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("encoder*.safetensors"))
    rows = {row["predictor"]: row["median_pooled_r_biased"] for row in summary["headline"]}
    assert rows["model"] == rows["frozen_encoder"]


def test_a_killed_run_goes_on_to_the_same_weights(
    config: FinetuneConfig, tuned: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    score = encoder_tuning._score

    def killed(*arguments: Any) -> float:
        if next(calls) == 2:  # after the start and the first epoch
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(encoder_tuning, "_score", killed)
    with pytest.raises(KeyboardInterrupt):
        run_in_memory(config, tmp_path / "run")
    monkeypatch.setattr(encoder_tuning, "_score", score)
    run_in_memory(config, tmp_path / "run")
    left, right = (
        anndata.read_h5ad(folder / "out_of_fold.h5ad").X for folder in (tuned[0], tmp_path / "run")
    )
    np.testing.assert_array_equal(left, right)


def test_slides_that_cannot_be_read_cost_a_row(config: FinetuneConfig, tmp_path: Path) -> None:
    """One of the two slides of P05 cannot be opened; P04 has no tiles; one of P00 has new tiles."""

    def some(tiles: TileSet) -> TileSet:
        if tiles.slide_id == "P04-1":
            raise InputError("no tiles of it", fix="tile it")
        fewer = dataclasses.replace(
            tiles, coords=tiles.coords[:3], tissue_fraction=tiles.tissue_fraction[:3]
        )
        return fewer if tiles.slide_id == "P00-2" else tiles

    data = load_cohort(config.cohort, config.features)
    data = dataclasses.replace(
        data, slides=data.slides | {"P05": (*data.slides["P05"], Path("P05-2.h5"))}
    )
    left, pixels = with_pixels(config, data, FakeSource(some))
    assert left.patients == tuple(name for name in PATIENTS if name != "P04")
    assert len(left.values) == len(left.descriptors["mean_features"]) == len(left.patients)
    assert [slide.slide_id for slide in pixels.tiles["P05"]] == ["P05-1"]
    lost = left.dropped.set_index("id")["reason"]
    assert "cannot be opened" in lost["P05-2"]
    assert "no tiles of it" in lost["P04-1"]
    assert "has 3 tiles, its features 5" in lost["P00-2"]
    assert "no slide whose pixels" in lost["P04"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slides": None}, "needs --slides"),
        ({"encoder": None, "tiles": None}, "needs --encoder and --tiles"),
        ({"several_slides": "mean"}, "several_slides=bag"),
        ({"refits": 50}, "train the encoder again"),
        ({"encoder_train": "some"}, "some"),
    ],
)
def test_what_does_not_go_together_is_refused(
    config: FinetuneConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **change)


def test_cross_validation_asks_for_no_refits(config: FinetuneConfig) -> None:
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)} | {
        "refits": 50
    }
    with pytest.raises(InputError, match="refits=0"):
        SlideCvConfig(**given)


def test_tiles_of_another_size_are_dropped_with_the_reason(config: FinetuneConfig) -> None:
    other = TileSpec.for_slide(PatchSize(64, 0.69), slide_mpp=0.69, level_downsamples=[1.0])
    source = FakeSource(lambda tiles: dataclasses.replace(tiles, spec=other))
    data = load_cohort(config.cohort, config.features)
    with pytest.raises(InputError, match="no slide's pixels can be read"):
        with_pixels(config, data, source)
