"""Tests of ``tcgn-mil associate``: planted relations are found, wrong input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_immunity import GENES, ODD, PATIENTS, TLS

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate import run as association
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.associate.study import gene_sets


def config(files: Path, **changed: object) -> AssociationConfig:
    given = {
        "predicted": str(files / "out_of_fold.h5ad"),
        "permutations": 100,
        "min_set_genes": 3,
    }
    return AssociationConfig(**(given | changed))


@pytest.fixture(scope="module")
def done(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "association"
    association.run(
        config(
            files,
            covariates=str(files / "covariates.csv"),
            adjust_for=("purity",),
            zero_unknown=("purity",),
            follow="leukocytes",
        ),
        out,
    )
    return out


def test_planted_genes_are_predicted_within_folds(done: Path) -> None:
    genes = pd.read_csv(done / "genes.csv").set_index("gene")
    assert (genes.loc[list(TLS), "pearson_r"] > 0.5).all()
    assert (genes.loc[list(TLS), "pearson_q"] < 0.05).all()
    noise = genes[genes.index.str.startswith("NULL")]
    assert abs(noise["pearson_r"].mean()) < 0.1
    assert (noise["pearson_q"] > 0.05).sum() >= 22
    assert (
        (genes["pearson_low"] < genes["pearson_r"]) & (genes["pearson_r"] < genes["pearson_high"])
    ).all()
    assert "TLS_CHEMOKINE_12" in genes.loc["CCL2", "sets"]
    assert (genes["n"] == 90).all()


def test_signatures_name_what_they_lack(done: Path) -> None:
    signatures = pd.read_csv(done / "signatures.csv").set_index("signature")
    assert signatures.loc["TLS_CHEMOKINE_12", "spearman_r"] > 0.8
    assert signatures.loc["TLS_CHEMOKINE_12", "partial_r"] > 0.8
    summary = json.loads((done / "summary.json").read_text())
    refused = {
        row["set"]: row["refused"] for row in summary["refused"] if row["source"] == "predicted"
    }
    assert refused["T_CELL_5"] == "none of its 5 genes is there"
    assert (
        "needs both" in refused["CYTOLYTIC_ACTIVITY"]
        or "none of its 2" in refused["CYTOLYTIC_ACTIVITY"]
    )
    assert summary["folds"] == 3
    assert any("80 patients for whom purity is known" in note for note in summary["notes"])


def test_covariates_are_followed(done: Path) -> None:
    table = pd.read_csv(done / "covariates.csv")
    assert set(table["source"]) == {"predicted", "measured"}
    tls = table[(table["name"] == "TLS_CHEMOKINE_12") & (table["source"] == "predicted")].set_index(
        "covariate"
    )
    assert tls.loc["leukocytes", "effect"] > 0.8
    assert tls.loc["leukocytes", "partial_r"] > 0.8
    assert tls.loc["subtype", "test"] == "Kruskal-Wallis"
    assert tls.loc["subtype", "q"] < 1e-6
    assert tls.loc["noise", "q"] > 0.05
    assert (
        1 < tls.loc["noise", "null_sd"] < 1.15 < tls.loc["subtype", "null_sd"]
    )  # the covariate is related to genes, so folds are not independent
    assert tls.loc["subtype", "null_sd"] < tls.loc["leukocytes", "null_sd"] < 2**0.5
    assert table.loc[table["source"] == "measured", "null_sd"].isna().all()
    assert "one" not in tls.index
    assert "column one has 1 level" in (done / "summary.json").read_text()


def test_what_models_were_trained_on_must_be_known_to_say_what_folds_share(
    files: Path, tmp_path: Path
) -> None:
    """If few of the predicted genes were measured, the null standard deviation stays sqrt(2).

    The genes that were not measured may be related to the covariate.
    """
    few = pd.read_csv(files / "measured.csv", index_col=0)[list(GENES[:15])]
    few.to_csv(tmp_path / "few.csv")
    given = {
        "covariates": str(files / "covariates.csv"),
        "covariate": ("noise", "subtype"),
        "follow": "noise",
    }
    association.run(
        config(files, measured=str(tmp_path / "few.csv"), adjust_for=("purity",), **given),
        tmp_path / "out",
    )
    table = pd.read_csv(tmp_path / "out" / "covariates.csv")
    assert table.loc[table["source"] == "predicted", "null_sd"].to_numpy() == pytest.approx(
        2**0.5, abs=1e-4
    )
    assert pd.read_csv(tmp_path / "out" / "follow.csv")["null_sd"].to_numpy() == pytest.approx(
        2**0.5, abs=1e-4
    )


def test_enrichment_and_followed_genes(done: Path) -> None:
    over = pd.read_csv(done / "enrichment.csv").set_index("set")
    assert over.loc["TLS_CHEMOKINE_12", "chosen"] == 12
    assert over.loc["TLS_CHEMOKINE_12", "q"] < 0.01
    gsea = pd.read_csv(done / "gsea.csv").set_index("set")
    assert gsea.loc["TLS_CHEMOKINE_12", "nes"] > 1
    follow = pd.read_csv(done / "follow.csv").set_index("gene")
    assert (follow.loc[[*TLS, *ODD], "q"] < 0.05).all()
    assert not follow["part_of_score"].any()


def test_odd_gene_names_stay_inside_the_folder(done: Path) -> None:
    figures = ("signatures", "scatter", "genes", "covariates", "enrichment", "follow")
    assert {path.name for path in done.iterdir()} == {
        "config.yaml",
        "run.json",
        "inputs.json",
        "summary.json",
        "coverage.csv",
        "scores.csv",
        "signatures.csv",
        "genes.csv",
        "covariates.csv",
        "enrichment.csv",
        "gsea.csv",
        "follow.csv",
        *(f"{name}{suffix}" for name in figures for suffix in (".png", ".pdf", "_figure.csv")),
    }
    assert ODD[0] in pd.read_csv(done / "follow.csv")["gene"].tolist()


def test_the_same_inputs_give_the_same_tables(files: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        association.run(config(files), tmp_path / name)
    for table in ("genes.csv", "signatures.csv", "gsea.csv"):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()


def test_tables_of_anybody_without_folds(files: Path, tmp_path: Path) -> None:
    summary = association.run(
        config(
            files,
            predicted=str(files / "predicted.csv"),
            measured=str(files / "measured.csv"),
            follow="TLS_CHEMOKINE_12",
        ),
        tmp_path,
    )
    assert summary["folds"] is None
    assert summary["follow"]["source"] == "measured"
    assert summary["enrichment"]["source"].startswith("r > 0 at q < 0.05 here")
    assert pd.read_csv(tmp_path / "follow.csv")["part_of_score"].sum() == 12


def test_counts_are_judged_given_library_size(files: Path, tmp_path: Path) -> None:
    """Genes that follow sequencing depth only agree until depth is adjusted for."""
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 1, len(PATIENTS))[:, None]
    counts = rng.poisson(50 * depth * np.ones(len(GENES)))
    pd.DataFrame(np.log2(counts + 1), index=PATIENTS, columns=GENES).to_csv(
        tmp_path / "measured.csv"
    )
    predicted = np.log(depth) + 0.5 * rng.normal(size=counts.shape)
    pd.DataFrame(predicted, index=PATIENTS, columns=GENES).to_csv(tmp_path / "predicted.csv")
    given = {name: str(tmp_path / f"{name}.csv") for name in ("predicted", "measured")}
    summary = association.run(
        config(files, **given, measured_unit="log2(counts + 1)"), tmp_path / "counts"
    )
    assert any("adjust for library size" in note for note in summary["notes"])
    genes = pd.read_csv(tmp_path / "counts" / "genes.csv")
    assert genes["pearson_r"].min() > 0.6
    assert abs(genes["partial_r"].mean()) < 0.1
    association.run(config(files, **given, measured_unit="log2(tpm-subset + 1)"), tmp_path / "tpm")
    assert "partial_r" not in pd.read_csv(tmp_path / "tpm" / "genes.csv")


def test_predictions_alone_have_scores_and_enrichment(files: Path, tmp_path: Path) -> None:
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join(TLS[:6]))
    summary = association.run(
        config(files, predicted=str(files / "predicted.csv"), genes=str(genes)), tmp_path / "out"
    )
    assert not summary["measured"]
    assert summary["enrichment"]["predictable"] == 6
    assert pd.read_csv(tmp_path / "out" / "scores.csv").columns.tolist() == [
        "patient_id",
        "predicted_TLS_CHEMOKINE_12",
    ]


def test_other_sets_stand_beside_the_shipped_ones(files: Path, tmp_path: Path) -> None:
    (tmp_path / "own.gmt").write_bytes(b"MINE\tx\tCCL2\tHLA-A\r\nABSENT\tx\tNOWHERE\r\n")
    summary = association.run(config(files, sets=(str(tmp_path / "own.gmt"),)), tmp_path / "out")
    assert "MINE" in summary["scored"]
    assert {
        "source": "predicted",
        "set": "ABSENT",
        "refused": "none of its 1 genes is there",
    } in summary["refused"]
    (tmp_path / "again.gmt").write_text("TLS_CHEMOKINE_12\tx\tCCL2\n")
    with pytest.raises(
        InputError, match="TLS_CHEMOKINE_12 has the name of a set that was loaded before"
    ):
        gene_sets(AssociationConfig(sets=(str(tmp_path / "again.gmt"),)))


def refused(files: Path, out: Path, **changed: object) -> str:
    with pytest.raises(InputError) as caught:
        association.run(config(files, **changed), out)
    assert not out.exists()
    assert caught.value.fix
    return str(caught.value)


def test_bad_input_is_refused_before_anything_is_written(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    covariates = {"covariates": str(files / "covariates.csv")}
    assert "no predictions" in refused(files, out, predicted=None)
    assert "column one has 1 level" in refused(files, out, **covariates, covariate=("one",))
    assert "column one has 1 level" in refused(files, out, **covariates, adjust_for=("one",))
    assert "subtype is a category" in refused(files, out, **covariates, follow="subtype")
    assert "no score is called 'NOTHING'" in refused(files, out, follow="NOTHING")
    assert "T_CELL_5 has no score: none of its 5 genes" in refused(files, out, follow="T_CELL_5")
    (tmp_path / "other.csv").write_text("id,CCL2\nQ1,1\nQ2,2\n")
    assert "shares no patient" in refused(files, out, measured=str(tmp_path / "other.csv"))
    assert "has none of the patients" in refused(files, out, covariates=str(tmp_path / "other.csv"))
    (tmp_path / "twice.csv").write_text("id,CCL2\nP001,1\nP001,2\n")
    assert "P001 has several rows" in refused(files, out, measured=str(tmp_path / "twice.csv"))
    (tmp_path / "few.csv").write_text("id,CCL2\nP001,1\nP002,2\n")
    assert "2 patients are too few" in refused(files, out, measured=str(tmp_path / "few.csv"))
    (tmp_path / "genes.csv").write_text("id,ENSG1\n" + "".join(f"{name},1\n" for name in PATIENTS))
    assert "shares no gene" in refused(files, out, measured=str(tmp_path / "genes.csv"))
    (tmp_path / "ensembl.csv").write_text(
        "id,ENSG1\n" + "".join(f"{name},1\n" for name in PATIENTS)
    )
    assert "none of 20 signatures has enough genes" in refused(
        files, out, predicted=str(tmp_path / "ensembl.csv")
    )
    (tmp_path / "genes.txt").write_text("NOWHERE\n")
    assert "names no gene of the predictions" in refused(
        files, out, genes=str(tmp_path / "genes.txt")
    )
    with pytest.raises(InputError, match="no table of covariates is given"):
        AssociationConfig(adjust_for=("purity",))
