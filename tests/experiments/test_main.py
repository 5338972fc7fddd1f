"""Tests of the command line: help, exit codes, and errors of one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from spot_sections import write_sections

from tcgn_mil.experiments import main as cli

VERBS = (
    "demo",
    "download",
    "spots",
    "pretrain",
    "spot-cv",
    "tile",
    "encode",
    "export-tiles",
    "import-features",
    "bulk",
    "clinical",
    "finetune",
    "slide-cv",
    "predict",
    "explain",
    "associate",
    "survive",
    "report",
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a command line in this process; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return (
            (code if isinstance(code, int) else 0 if code is None else 1),
            captured.out,
            captured.err,
        )

    return call


@pytest.fixture
def refused(run, tmp_path: Path):
    """Run a command that must fail: exit code 2, one line, nothing under a final name."""

    def call(*arguments: object, out: Path) -> str:
        before = set(out.rglob("*")) if out.exists() else set()
        code, _, err = run(*arguments)
        assert code == 2, err
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, err
        assert "Fix: " in lines[0]
        assert "Traceback" not in err
        left = {
            path
            for path in (set(out.rglob("*")) if out.exists() else set()) - before
            if path.is_file()
        }
        assert not {path for path in left if path.suffix in (".h5", ".h5ad", ".safetensors")}, left
        return lines[0]

    return call


def test_the_installed_command_lists_every_verb() -> None:
    """That it answers at once follows from what it imports: see tests/test_layering.py."""
    text = subprocess.run(["tcgn-mil", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert "--out" in out
    assert "default" in out


@pytest.mark.parametrize("verb", ["pretrain", "spot-cv", "finetune"])
def test_show_config_prints_what_a_run_would_use(run, verb: str) -> None:
    code, out, _ = run(verb, "--set", "training.epochs=3", "--show-config")
    assert code == 0
    assert "epochs: 3" in out


@pytest.mark.parametrize("verb", ["pretrain", "spot-cv", "finetune"])
def test_unknown_config_key(refused, verb: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("training:\n  epoch: 3\n")
    message = refused(verb, "--config", config, "--out", tmp_path / "out", out=tmp_path / "out")
    assert "run.yaml: unknown config key 'training.epoch'" in message
    assert "did you mean 'epochs'" in message


def test_slide_without_resolution(refused, tmp_path: Path) -> None:
    slide = tmp_path / "slide.png"
    Image.fromarray(np.full((600, 600, 3), 200, np.uint8)).save(slide)
    message = refused("tile", slide, "--out", tmp_path / "tiles", out=tmp_path / "tiles")
    assert "slide" in message
    assert "--mpp" in message


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_is_no_folder_to_write_to_and_a_folder_no_file(
    run, verb: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    takes_file = verb in ("bulk", "clinical", "report")
    out = tmp_path if takes_file else tmp_path / "file"
    needed = {
        "bulk": ("x.csv", "--unit", "tpm", "--slides", "s.csv"),
        "clinical": ("x.csv",),
        "download": ("her2st",),
        "spots": ("x",),
        "tile": ("x",),
        "encode": ("x", "--tiles", "x", "--encoder", "x"),
        "explain": ("--gene", "X"),
        "export-tiles": ("x", "--format", "clam"),
        "import-features": ("x",),
        "report": ("x",),
    }
    given = needed.get(verb, ())
    code, _, err = run(verb, *given, "--out", out)
    assert code == 2
    said = " ".join(err.replace("│", " ").split())
    assert "Invalid value for '--out'" in said
    assert ("is a directory" if takes_file else "is a file") in said


def test_what_cannot_be_written_is_said_in_a_line(run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "my.csv").write_text("id,t,e\na,100,1\n")
    columns = (
        "--patient-column",
        "id",
        "--time-column",
        "t",
        "--event-column",
        "e",
        "--endpoint",
        "OS",
    )
    coding = ("--time-unit", "days", "--event-coding", "event")
    out = tmp_path / "file" / "clinical.csv"
    code, _, err = run("clinical", tmp_path / "my.csv", *columns, *coding, "--out", out)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: {tmp_path / 'file'}: ")
    assert "Traceback" not in err


def test_predict_takes_slides_or_features_and_options_of_the_one_it_takes(
    refused, tmp_path: Path
) -> None:
    both = ("predict", "--slides", tmp_path, "--features", tmp_path)
    assert "--slides and --features at once" in refused(*both, out=tmp_path)
    for option in ("--encoder", "--mpp", "--patch-px", "--patch-mpp"):
        assert f"{option} without --slides" in refused("predict", option, 1, out=tmp_path)
    assert "--pretrained and --keep-features without" in refused(
        "predict", "--pretrained", "--keep-features", out=tmp_path
    )


def test_missing_and_truncated_images(refused, tmp_path: Path) -> None:
    assert "no such slide" in refused("tile", tmp_path / "no.svs", out=tmp_path)
    slide = tmp_path / "slide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)).save(
        slide
    )
    slide.write_bytes(slide.read_bytes()[:50_000])
    message = refused(
        "tile", slide, "--mpp", 0.5, "--out", tmp_path / "tiles", out=tmp_path / "tiles"
    )
    assert "slide" in message


def test_a_broken_slide_among_good_ones_costs_a_row(run, demo: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    good = sorted((demo / "cohort" / "slides").glob("*.tiff"))[0]
    (slides / good.name).symlink_to(good)
    (slides / "broken.tiff").write_bytes(b"II*\0 no slide")
    code, out, err = run("tile", slides, "--out", tmp_path / "tiles")
    assert code == 1
    assert "1 slide tiled" in out
    assert "failures.csv" in err
    failures = pd.read_csv(tmp_path / "tiles" / "failures.csv")
    assert failures["slide"].tolist() == ["broken"]
    assert list(failures.columns) == ["slide", "stage", "reason", "likely_fix"]
    assert (tmp_path / "tiles" / f"{good.stem}.h5").is_file()
    page = (tmp_path / "tiles" / "contact_sheet.html").read_text(encoding="utf-8")
    assert "1 slides tiled, 1 failed" in page
    assert good.stem in page
    assert (tmp_path / "tiles" / "tile_summary.csv").is_file()


def test_stain_options_are_checked_before_any_slide_is_read(refused, tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), "white").save(tmp_path / "slide.png")
    slide, out = tmp_path / "slide.png", tmp_path / "tiles"
    for options, part in (
        (("--stain-reference", slide), "--stain-reference is given without --stain"),
        (("--stain", "vahadane"), "unknown stain normalisation 'vahadane'"),
        (("--stain", "reinhard"), "--stain-reference"),
        (("--stain", "macenko", "--stain-reference", slide), "slide.png: too little stain"),
        (("--workers", 0), "0 workers"),
    ):
        assert part in refused("tile", slide, *options, "--out", out, out=out)
        assert not out.exists()


def test_a_broken_section_among_good_ones_costs_a_row(
    run, refused, demo: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(demo / "cohort" / "st", tmp_path / "st")
    broken, good, *_ = sorted(
        path.name.split(".")[0] for path in (source / "ST-cnts").glob("*.tsv*")
    )
    (source / "ST-spotfiles" / f"{broken}_selection.tsv").unlink()
    out = tmp_path / "spots"
    options = ("--section", broken, "--section", good, "--patch-px", 56, "--spot-pitch-um", 100)
    code, text, err = run("spots", source, *options, "--out", out)
    assert code == 1
    assert "1 section read" in text
    assert "1 section failed, listed in" in err
    (row,) = pd.read_csv(out / "failures.csv").to_dict("records")
    assert (row["slide"], row["stage"]) == (broken, "spots")
    message = refused(
        "spots", source, "--section", broken, "--out", tmp_path / "none", out=tmp_path / "none"
    )
    assert f"error: section {broken}: " in message
    assert f"section {broken} has no spot file" in message


def test_tiles_of_another_size_are_refused_unless_told(
    refused, run, demo: Path, tmp_path: Path
) -> None:
    slide = sorted((demo / "cohort" / "slides").glob("*.tiff"))[0]
    tiles, encoder = tmp_path / "tiles", demo / "encoder" / "encoder.safetensors"
    assert run("tile", slide, "--patch-px", 200, "--out", tiles)[0] == 0
    options = (
        "encode",
        slide,
        "--tiles",
        tiles,
        "--encoder",
        encoder,
        "--out",
        tmp_path / "features",
    )
    message = refused(*options, out=tmp_path / "features")
    assert "trained on patches of 77.3 µm" in message
    assert "--patch-px 112" in message
    assert run(*options, "--allow-other-size")[0] == 0


def test_any_timm_model_encodes(run, demo: Path, tmp_path: Path) -> None:
    slide = sorted((demo / "cohort" / "slides").glob("*.tiff"))[0]
    out = tmp_path / "features"
    assert (
        run(
            "encode",
            slide,
            "--tiles",
            demo / "tiles",
            "--encoder",
            "timm:resnet10t",
            "--untrained",
            "--out",
            out,
        )[0]
        == 0
    )
    from tcgn_mil.io.feature_files import read_features

    features, coords, info = read_features(out / f"{slide.stem}.h5")
    assert features.shape == (len(coords), 512)
    assert info.encoder.startswith("untrained:timm:resnet10t-")


def test_models_refuse_features_of_another_encoder(
    refused, run, demo: Path, tmp_path: Path
) -> None:
    slide = sorted((demo / "cohort" / "slides").glob("*.tiff"))[0]
    features = tmp_path / "features"
    run(
        "encode",
        slide,
        "--tiles",
        demo / "tiles",
        "--encoder",
        "timm:resnet10t",
        "--untrained",
        "--out",
        features,
    )
    message = refused(
        "predict",
        "--model",
        demo / "slide-model",
        "--features",
        features,
        "--out",
        tmp_path / "p",
        out=tmp_path / "p",
    )
    assert "timm:resnet10t" in message
    assert "tcgn_tiny" in message


def test_unknown_timm_model(refused, demo: Path, tmp_path: Path) -> None:
    slides = demo / "cohort" / "slides.csv"
    message = refused(
        "encode",
        slides,
        "--tiles",
        demo / "tiles",
        "--encoder",
        "timm:resnet1000",
        "--out",
        tmp_path / "f",
        out=tmp_path / "f",
    )
    assert "timm has no model 'resnet1000'" in message


def test_a_checkpoint_for_other_genes(refused, demo: Path, tmp_path: Path) -> None:
    genes = tmp_path / "genes.txt"
    genes.write_text("SYN_TUMOUR_01\n")
    message = refused(
        "pretrain",
        "--spots",
        demo / "spots",
        "--set",
        f"panel.file={genes}",
        "--set",
        "model=tcgn_tiny",
        "--set",
        f"checkpoint={demo / 'encoder' / 'encoder.safetensors'}",
        "--out",
        tmp_path / "out",
        out=tmp_path / "out",
    )
    assert "encoder.safetensors" in message
    genes.write_text("SYN_TUMOUR_01\nNOT_A_GENE\n")
    message = refused(
        "pretrain",
        "--spots",
        demo / "spots",
        "--set",
        f"panel.file={genes}",
        "--out",
        tmp_path / "b",
        out=tmp_path / "b",
    )
    assert "NOT_A_GENE" in message


def test_a_gene_the_model_lacks(refused, demo: Path, tmp_path: Path) -> None:
    message = refused(
        "predict",
        "--model",
        demo / "slide-model",
        "--features",
        demo / "features",
        "--map-gene",
        "ERBB2",
        "--out",
        tmp_path / "p",
        out=tmp_path / "p",
    )
    assert "ERBB2" in message


def test_expression_tables_with_faults(refused, demo: Path, tmp_path: Path) -> None:
    slides, out = demo / "cohort" / "slides.csv", tmp_path / "cohort.h5ad"
    table = pd.read_csv(demo / "cohort" / "bulk_tpm.csv", index_col=0)

    def message(frame: pd.DataFrame, unit: str = "tpm") -> str:
        path = tmp_path / "bulk.csv"
        frame.to_csv(path)
        return refused("bulk", path, "--unit", unit, "--slides", slides, "--out", out, out=tmp_path)

    assert "none of them a known patient (the slides are of" in message(
        table.rename(index=lambda name: "P" + name[-3:])
    )
    text = table.astype(object)
    text.iloc[2, 1] = "high"
    assert f"column {table.columns[1]}, row {table.index[2]}: 'high'" in message(text)
    assert "do not sum to 1e6" in message(table / 2)
    assert "unknown expression unit 'rpkm'" in message(table, unit="rpkm")


def test_a_broken_expression_file_among_good_ones_costs_a_row(run, refused, tmp_path: Path) -> None:
    folder, suffix = tmp_path / "gdc", ".rna_seq.augmented_star_gene_counts.tsv"
    folder.mkdir()
    kinds = ("unstranded", "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded")
    header = "\t".join(("gene_id", "gene_name", "gene_type", *kinds))
    gene = "ENSG00000000003.15\tTSPAN6\tprotein_coding\t4\t1e6\t1\t1"
    counts = f"# model\n{header}\nN_unmapped\t\t\t9\t\t\t\n{gene}\n"
    (folder / f"one{suffix}").write_text(counts)
    (folder / f"two{suffix}").write_text(counts[:-3])
    rows = [
        f"id{name}\t{name}{suffix}\tTCGA-AA-000{n}\tTCGA-AA-000{n}-01A\tPrimary Tumor"
        for n, name in enumerate(("one", "two"))
    ]
    sheet = "\n".join(["File ID\tFile Name\tCase ID\tSample ID\tSample Type", *rows])
    (folder / "gdc_sample_sheet.tsv").write_text(sheet)
    (tmp_path / "slides.csv").write_text(
        "slide_id\nTCGA-AA-0000-01Z-00-DX1\nTCGA-AA-0001-01Z-00-DX1\n"
    )
    given = (
        "bulk",
        folder,
        "--slides",
        tmp_path / "slides.csv",
        "--out",
        tmp_path / "out" / "cohort.h5ad",
    )
    code, out, err = run(*given, "--unit", "counts")
    assert code == 1
    assert "1 of 2 slides and 1 of 1 samples joined" in out
    assert "1 file left out" in err
    assert "failures.csv" in err
    (row,) = pd.read_csv(tmp_path / "out" / "failures.csv").to_dict("records")
    assert (row["slide"], row["stage"]) == (f"two{suffix}", "expression")
    for option, message in (
        (("--unit", "zscore"), "GDC files hold counts, tpm"),
        (("--unit", "counts", "--preparation", "ffpe"), "unknown preparation 'ffpe'"),
        (("--unit", "counts", "--gene-map", tmp_path / "gone.tsv"), "gone.tsv: no such table"),
        (
            ("--unit", "counts", "--clinical", tmp_path / "gone.csv"),
            "gone.csv: no such clinical table",
        ),
    ):
        assert message in refused(*given, *option, out=tmp_path / "other")


def test_an_output_folder_of_another_run_is_refused(refused, demo: Path) -> None:
    run_dir = demo / "slide-model"
    config = run_dir / "config.yaml"
    changed = ("--config", config, "--set", "model.heads=2", "--out", run_dir)
    message = refused("finetune", *changed, out=run_dir)
    assert "differing keys: model.heads" in message


def test_stages_in_the_wrong_order_say_what_to_run(refused, demo: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert "run tcgn-mil spots first" in refused(
        "pretrain", "--spots", nowhere, "--out", tmp_path / "a", out=tmp_path
    )
    assert "tcgn-mil bulk" in refused(
        "finetune", "--cohort", nowhere, "--out", tmp_path / "b", out=tmp_path
    )
    assert "tcgn-mil finetune" in refused(
        "predict", "--model", nowhere, "--out", tmp_path / "c", out=tmp_path
    )
    slides = demo / "cohort" / "slides.csv"
    encoder = demo / "encoder" / "encoder.safetensors"
    found = refused(
        "encode",
        slides,
        "--tiles",
        nowhere,
        "--encoder",
        encoder,
        "--out",
        tmp_path / "d",
        out=tmp_path,
    )
    assert "run tcgn-mil tile first" in found


def test_unknown_sections_are_named(refused, demo: Path, tmp_path: Path) -> None:
    message = refused(
        "pretrain",
        "--spots",
        demo / "spots",
        "--test-section",
        "Z9",
        "--out",
        tmp_path / "o",
        out=tmp_path / "o",
    )
    assert "no section Z9" in message
    assert "A1" in message


def test_a_failed_first_try_does_not_block_the_second(
    run, refused, demo: Path, tmp_path: Path
) -> None:
    options = (
        "--model",
        demo / "slide-model",
        "--features",
        demo / "features",
        "--no-maps",
        "--out",
        tmp_path / "p",
    )
    refused("predict", *options, "--map-gene", "TYPO", out=tmp_path / "p")
    assert run("predict", *options)[0] == 0
    refused(
        "pretrain",
        "--spots",
        demo / "spots",
        "--test-section",
        "Z9",
        "--out",
        tmp_path / "e",
        out=tmp_path / "e",
    )
    message = refused("pretrain", "--spots", tmp_path, "--out", tmp_path / "e", out=tmp_path / "e")
    assert "holds no spot file" in message  # the run in this folder is not the problem


def test_the_published_protocol_is_a_preset_that_options_override(
    run, refused, tmp_path: Path
) -> None:
    code, out, _ = run(
        "spot-cv", "--preset", "published", "--set", "training.epochs=5", "--show-config"
    )
    assert code == 0
    for line in (
        "group_by: section",
        "select_on_test: true",
        "normalisation: published",
        "epochs: 5",
        "lr: 1.0e-05",
        "optimizer: adam",
        "schedule: constant",
        "standardise: false",
    ):
        assert line in out, line
    message = refused("spot-cv", "--preset", "nature", "--out", tmp_path / "o", out=tmp_path / "o")
    assert "no preset 'nature'" in message


def test_a_config_file_names_the_spots(run, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("spots: elsewhere\ngroup_by: section\n")
    assert "spots: elsewhere" in run("spot-cv", "--config", config, "--show-config")[1]
    assert (
        "spots: here" in run("pretrain", "--config", config, "--spots", "here", "--show-config")[1]
    )


def test_spot_cv_from_the_command_line(run, refused, tmp_path: Path) -> None:
    spots = write_sections(tmp_path / "spots", {"A1": "A", "B1": "B"})
    options = (
        "--spots",
        spots,
        "--set",
        "model=resnet10t",
        "--set",
        "encoder_options.untrained=true",
        "--set",
        "input_px=32",
        "--set",
        "train=none",
        "--set",
        "validation=join",
        "--set",
        "baselines=false",
    )
    code, out, err = run("spot-cv", *options, "--out", tmp_path / "a")
    assert code == 0, err
    assert "2 folds, 2 sections: headline" in out
    assert "ridge_colour" in out
    assert "approximate" in err
    code, out, err = run("spot-cv", *options, "--set", "views=1", "--out", tmp_path / "b")
    assert code == 0, err
    code, out, err = run(
        "spot-cv", "--compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "compared"
    )
    assert code == 0, err
    assert "mean of sections" in out
    message = refused(
        "spot-cv",
        "--spots",
        spots,
        "--group-by",
        "slide",
        "--out",
        tmp_path / "c",
        out=tmp_path / "c",
    )
    assert "group_by" in message
    message = refused(
        "spot-cv", *options, "--out", tmp_path / "a", "--set", "views=8", out=tmp_path / "a"
    )
    assert "differing keys: views" in message
    message = refused(
        "spot-cv", "--compare", tmp_path / "a", spots, "--out", tmp_path / "d", out=tmp_path / "d"
    )
    assert "holds no run of spot-cv" in message


@pytest.mark.parametrize("verb", ["finetune", "slide-cv"])
def test_preserve_sites_keeps_sites_in_one_fold(verb: str, run) -> None:
    code, out, _ = run(verb, "--preserve-sites", "--show-config")
    assert code == 0
    assert "group_by: site" in out


def test_preserve_sites_against_group_by_is_refused(tmp_path: Path, refused) -> None:
    out = tmp_path / "c"
    message = refused(
        "slide-cv", "--preserve-sites", "--group-by", "patient", "--out", out, out=out
    )
    assert "--preserve-sites and --group-by patient contradict each other" in message
