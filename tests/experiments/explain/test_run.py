"""Tests of ``tcgn-mil explain``: place of explanations, files that are written, and refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.checkpoints import read_encoder_info, save_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.demo.synthetic import SyntheticConfig, make_cohort
from tcgn_mil.experiments.explain.attribution_tables import explain_image
from tcgn_mil.experiments.explain.config import ExplainConfig
from tcgn_mil.experiments.explain.gene_models import spot_model
from tcgn_mil.experiments.explain.run import run
from tcgn_mil.inference.spots import predict_spots
from tcgn_mil.io.feature_files import find_features
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.models import create_encoder
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.tiles.pixels import centre_tile
from tcgn_mil.types.tile_geometry import PatchSize

GENES = ("SYN_IMMUNE_01", "SYN_NULL_01")


@pytest.fixture(scope="module")
def spot_run(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spots of a test section explained for two genes."""
    out = tmp_path_factory.mktemp("explained")
    names = read_spots(demo / "spots" / "A1.h5ad").adata.obs_names
    config = ExplainConfig(
        str(demo / "encoder" / "encoder.safetensors"),
        GENES,
        spots=str(demo / "spots"),
        sections=("A1",),
        barcodes=(names[7], names[3]),
        steps=8,
    )
    run(config, out)
    return out


def test_each_picture_and_gene_has_a_figure_and_a_row(demo: Path, spot_run: Path) -> None:
    table = pd.read_csv(spot_run / "explanations.csv")
    spots = read_spots(demo / "spots" / "A1.h5ad").adata
    assert table["picture"].tolist() == [f"A1_{spots.obs_names[i]}" for i in (7, 7, 3, 3)]
    assert table["gene"].tolist() == [*GENES, *GENES]
    assert set(table["unit"]) == {"log1p(counts per 1e4 of all genes)"}
    for figure in table["figure"]:
        with Image.open(spot_run / figure) as image:
            assert image.width == round(plotting.TWO_COLUMNS * plotting.DPI)
    assert {path.name for path in (spot_run / "figures").iterdir()} == {
        Path(figure).name for figure in table["figure"]
    }


def test_predicted_and_measured_values_are_those_of_the_encoder_and_the_counts(
    demo: Path, spot_run: Path
) -> None:
    import anndata

    table = pd.read_csv(spot_run / "explanations.csv").pivot(index="picture", columns="gene")
    adata = read_spots(demo / "spots" / "A1.h5ad").adata
    predicted = anndata.read_h5ad(demo / "encoder" / "predicted_A1.h5ad")
    for spot in (adata.obs_names[7], adata.obs_names[3]):
        for gene in GENES:
            assert table.loc[f"A1_{spot}"]["predicted"][gene] == pytest.approx(
                predicted[spot, gene].X.item(), abs=1e-4
            )
            counts = adata[spot].X
            expected = np.log1p(1e4 * adata[spot, gene].X.sum() / counts.sum())
            assert table.loc[f"A1_{spot}"]["measured"][gene] == pytest.approx(expected, abs=1e-4)


def test_spots_that_were_trained_on_are_called_so(
    call, demo: Path, spot_run: Path, tmp_path: Path
) -> None:
    assert set(pd.read_csv(spot_run / "explanations.csv")["relation"]) == {"test"}
    parts = pd.read_csv(demo / "encoder" / "folds.csv").set_index("part")["id"]
    section = np.atleast_1d(parts["train"])[0]
    answer = call(
        "--encoder",
        demo / "encoder" / "encoder.safetensors",
        "--spots",
        demo / "spots",
        "--section",
        section,
        "--gene",
        GENES[0],
        "--top",
        1,
        "--steps",
        2,
        "--out",
        tmp_path,
    )
    assert answer.code == 0
    assert "1 of them were trained on, so that their predictions look better" in answer.err
    assert set(pd.read_csv(tmp_path / "explanations.csv")["relation"]) == {"trained on"}


def test_the_numbers_of_nodes_add_up(spot_run: Path) -> None:
    overview = pd.read_csv(spot_run / "explanations.csv").set_index(["picture", "gene"])
    nodes = pd.read_csv(spot_run / "nodes.csv").groupby(["picture", "gene"])
    assert (nodes.size() == 196).all()
    sums = nodes[["cam", "cam_mass", "relevance"]].sum().loc[overview.index]
    np.testing.assert_allclose(sums["cam"], overview["cam_sum"], rtol=1e-3)
    np.testing.assert_allclose(
        sums["cam_mass"], overview["cam_sum"] > 0, rtol=1e-3
    )  # zero everywhere, since nothing speaks for the gene
    np.testing.assert_allclose(
        sums["relevance"], overview["ig_change"] + overview["ig_delta"], rtol=1e-3, atol=1e-6
    )


def test_the_graph_has_784_edges_a_block_whose_ends_are_the_degrees(spot_run: Path) -> None:
    graph, degrees = pd.read_csv(spot_run / "graph.csv"), pd.read_csv(spot_run / "degrees.csv")
    assert (graph.groupby(["picture", "block"]).size() == 784).all()
    assert sorted(graph["block"].unique()) == [0, 1]
    node = ["picture", "block", "row", "column"]
    for end, column in (("source", "out_degree"), ("target", "in_degree")):
        renamed = graph.rename(columns={f"{end}_row": "row", f"{end}_column": "column"})
        counted = (
            renamed.groupby(node)
            .size()
            .reindex(pd.MultiIndex.from_frame(degrees[node]), fill_value=0)
        )
        assert counted.tolist() == degrees[column].tolist()


def test_a_run_says_what_made_it_and_comes_out_the_same_again(
    demo: Path, spot_run: Path, tmp_path: Path
) -> None:
    made = json.loads((spot_run / "run.json").read_text())
    assert made["kind"] == "explain"
    assert made["config"]["genes"] == list(GENES)
    assert made["git_commit"] is None or len(made["git_commit"]) >= 40
    config = ExplainConfig(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in made["config"].items()}
    )
    run(config, tmp_path)
    for name in ("explanations.csv", "nodes.csv", "graph.csv", "degrees.csv"):
        assert (tmp_path / name).read_bytes() == (spot_run / name).read_bytes()


def test_without_names_the_spots_of_highest_prediction_are_explained(
    call, demo: Path, tmp_path: Path
) -> None:
    import anndata

    answer = call(
        "--encoder",
        demo / "encoder" / "encoder.safetensors",
        "--spots",
        demo / "spots" / "A1.h5ad",
        "--gene",
        GENES[0],
        "--top",
        2,
        "--steps",
        2,
        "--out",
        tmp_path,
    )
    assert answer.code == 0, answer.err
    assert "2 pictures explained for 1 genes" in answer.out
    predicted = anndata.read_h5ad(demo / "encoder" / "predicted_A1.h5ad")
    values = pd.Series(predicted[:, GENES[0]].X.ravel(), predicted.obs_names)
    found = pd.read_csv(tmp_path / "explanations.csv")
    assert found["predicted"].tolist() == sorted(found["predicted"], reverse=True)
    assert found["predicted"].min() >= values.nlargest(2).min() - 1e-4


def test_the_centre_of_an_image_is_explained_as_its_spot_would_be(
    call, demo: Path, tmp_path: Path
) -> None:
    patch = read_patches(demo / "spots" / "A1_patches.h5", np.array([5]))[0]
    framed = np.full((132, 142, 3), 200, dtype=np.uint8)
    framed[10:122, 15:127] = patch
    Image.fromarray(framed).save(tmp_path / "cut.png")
    answer = call(
        "--encoder",
        demo / "encoder" / "encoder.safetensors",
        "--image",
        tmp_path / "cut.png",
        "--mpp",
        0.69,
        "--gene",
        GENES[0],
        "--steps",
        2,
        "--out",
        tmp_path / "out",
    )
    assert answer.code == 0, answer.err
    model = spot_model(demo / "encoder" / "encoder.safetensors", GENES[:1])
    expected = explain_image(model, patch, steps=2).predicted[0]
    row = pd.read_csv(tmp_path / "out" / "explanations.csv").iloc[0]
    assert row["predicted"] == pytest.approx(expected, abs=1e-5)
    assert row["picture"] == "cut"
    assert np.isnan(row["measured"])


def test_an_image_at_another_resolution_is_resized_to_the_encoders_field() -> None:
    tiles = centre_tile("x", (1000, 800), 0.23, (1.0, 2.0, 4.0), PatchSize())
    assert tiles.spec.level0_px == pytest.approx(336, abs=0.1)
    assert (tiles.spec.read_level, tiles.spec.read_px) == (1, 168)
    assert tiles.coords.tolist() == [[332, 232]]
    nearly = centre_tile("x", (153, 153), 0.5, (1.0,), PatchSize())  # 76.5 of 77.3 µm
    assert (nearly.coords.tolist(), nearly.spec.read_px) == ([[0, 0]], 153)


def test_an_encoder_of_timm_is_explained_with_its_own_input(demo: Path, tmp_path: Path) -> None:
    """Grad-CAM and integrated gradients; there is no learned graph."""
    trained = read_encoder_info(demo / "encoder" / "encoder.safetensors")
    own = {"input_spec": EncoderInput(96, (0.5, 0.6, 0.7), (0.2, 0.3, 0.4))}
    torch.manual_seed(0)
    model = create_encoder("resnet10t", len(trained.panel)).eval()
    encoder = tmp_path / "encoder.safetensors"
    save_encoder(encoder, model, dataclasses.replace(trained, model="resnet10t", **own))
    config = ExplainConfig(
        str(encoder), GENES, spots=str(demo / "spots"), sections=("A1",), top=1, steps=64
    )
    run(config, tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "explanations.csv").set_index(["picture", "gene"])
    spots = read_spots(demo / "spots" / "A1.h5ad")
    predicted = predict_spots(model, read_patches(spots.patches_path), batch_size=16, **own)
    for gene in GENES:
        column = trained.panel.genes.index(gene)
        best = int(predicted[:, column].argmax())
        expected = (
            predicted[best, column] * trained.scaler.std[column] + trained.scaler.mean[column]
        )
        row = found.loc[f"A1_{spots.adata.obs_names[best]}", gene]
        assert row["predicted"] == pytest.approx(expected, abs=1e-4)
        assert abs(row["ig_delta"]) < 0.05 * abs(row["ig_change"]) + 1e-3
    assert (
        pd.read_csv(tmp_path / "out" / "nodes.csv").groupby(["picture", "gene"]).size() == 9
    ).all()  # 3 x 3
    assert not (tmp_path / "out" / "graph.csv").exists()


def test_bad_input_ends_with_one_line(
    call, demo: Path, slide_arguments: list[object], tmp_path: Path
) -> None:
    Image.new("RGB", (100, 300)).save(tmp_path / "small.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "plain.png")
    encoder = ["--encoder", demo / "encoder" / "encoder.safetensors"]
    spots = [*encoder, "--spots", demo / "spots"]
    gene = ["--gene", GENES[0]]
    slide = sorted(find_features(demo / "features"))[0]
    cases = [
        ([*spots, "--gene", "SYN_IMUNE_01"], "no gene SYN_IMUNE_01", "did you mean SYN_IMMUNE_01"),
        ([*spots, *gene, "--section", "Q7"], "has no section Q7", "a name among A1"),
        (
            [*spots, *gene, "--section", "A1", "--spot", "99x99"],
            "A1.h5ad: has no spot 99x99",
            "give --spot with a name",
        ),
        (spots, "no gene is named", "--gene"),
        ([*spots, *gene, *gene], "gene SYN_IMMUNE_01 is named twice", "once"),
        ([*encoder, *gene], "0 of --spots, --image and --model are given", "one of --spots"),
        ([*spots, *gene, "--image", tmp_path / "small.png"], "2 of --spots", "one of --spots"),
        ([*spots, *gene, "--steps", 1], "config key 'steps' is 1", "at least 2"),
        (
            [*encoder, *gene, "--spots", tmp_path / "none"],
            "none: there is no such file or folder (--spots)",
            "tcgn-mil spots",
        ),
        (
            ["--encoder", tmp_path / "none", "--spots", demo / "spots", *gene],
            "no such encoder checkpoint",
            "check",
        ),
        (
            [*encoder, *gene, "--image", tmp_path / "none.png", "--mpp", 0.5],
            "none.png: there is no such file or folder (--image)",
            "correct --image",
        ),
        (
            [*encoder, *gene, "--image", tmp_path / "small.png", "--mpp", 0.5],
            "is 50.0 µm across",
            "at least 155 px",
        ),
        (
            [*encoder, *gene, "--image", tmp_path / "plain.png", "--mpp", 2],
            "too coarse",
            "finer scan",
        ),
        ([*encoder, *gene, "--image", tmp_path / "plain.png"], "plain.png", "--mpp"),
        (
            [*spots, *gene, "--slide", "other"],
            "--slide is given without --model",
            "--model",
        ),
        (
            [*encoder, *gene, "--image", tmp_path / "plain.png", "--spot", "3x3"],
            "--spot is given without --spots",
            "--spots",
        ),
        ([*slide_arguments, *gene], "no slide is named", "--slide"),
        ([*slide_arguments, *gene, "--slide", "other"], "no slide other", "a name among"),
        ([*slide_arguments, "--gene", "ERBB2", "--slide", slide], "no gene ERBB2", "choose among"),
    ]
    for arguments, reason, fix in cases:
        answer = call(*arguments, "--out", tmp_path / "out")
        lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert answer.code == 2, (reason, answer)
        assert len(lines) == 1, answer.err
        assert reason in lines[0]
        assert fix in lines[0].split("Fix: ")[1]
        assert not list(tmp_path.rglob("*.csv"))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_patches_of_another_size_are_refused(demo: Path, tmp_path: Path) -> None:
    config = SyntheticConfig(
        n_patients=1,
        n_sections=1,
        n_section_patients=1,
        section_size_um=(400.0, 400.0),
        slide_size_um=(300.0, 300.0),
        slides_per_patient=(1.0,),
    )
    cohort = make_cohort(config, tmp_path / "cohort")
    write_spots(
        cohort.st,
        tmp_path / "spots",
        SpotsConfig(spot_pitch_um=config.spot_pitch_um, patch=PatchSize(56, 1.0)),
    )
    chosen = ExplainConfig(
        str(demo / "encoder" / "encoder.safetensors"),
        GENES[:1],
        spots=str(tmp_path / "spots"),
        steps=2,
    )
    with pytest.raises(InputError, match=r"trained on patches of 77\.3 µm .* these are 56\.0 µm"):
        run(chosen, tmp_path / "out")
