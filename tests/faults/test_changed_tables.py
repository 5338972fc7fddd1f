"""Imported features and associations are made again when their inputs change, and it is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from changing_slides import ask

from tcgn_mil.io.feature_files import read_features

SHAPE = (6, 8)


def write_array(path: Path, seed: int, mtime: float | None = None) -> None:
    """Write features of tiles without positions."""
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))
    if mtime is not None:
        os.utime(path, (mtime, mtime))


def import_arrays(folder: Path, out: Path) -> str:
    size = ("--patch-px", 256, "--patch-mpp", 0.5)
    return ask("import-features", folder, "--encoder", "mine", *size, "--out", out).err


def first_value(out: Path, slide: str) -> float:
    return float(read_features(out / f"{slide}.h5").features[0, 0])


class TestImportFeatures:
    def test_an_older_file_in_the_place_of_another_is_imported(self, tmp_path: Path) -> None:
        source, out = tmp_path / "source", tmp_path / "out"
        for seed, name in enumerate(("S1", "S2")):
            write_array(source / f"{name}.npy", seed)
        import_arrays(source, out)
        before = [first_value(out, name) for name in ("S1", "S2")]
        write_array(source / "S2.npy", seed=7, mtime=1.0)
        assert "1 slide changed since the last import and imported again: S2" in (
            import_arrays(source, out)
        )
        after = [first_value(out, name) for name in ("S1", "S2")]
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert "again" not in import_arrays(source, out)

    def test_a_file_that_left_or_is_damaged_leaves_no_features(self, tmp_path: Path) -> None:
        source, out = tmp_path / "source", tmp_path / "out"
        for seed, name in enumerate(("S1", "S2", "S3")):
            write_array(source / f"{name}.npy", seed)
        import_arrays(source, out)
        (source / "S2.npy").unlink()
        (source / "S3.npy").write_bytes(b"damaged")
        assert "1 slide is no longer listed" in import_arrays(source, out)
        assert sorted(path.stem for path in out.glob("*.h5")) == ["S1"]
        assert (out / "set-aside" / "S2.h5").is_file()

    def test_a_row_that_left_a_table_leaves_no_features(self, tmp_path: Path) -> None:
        table, out = tmp_path / "areas.csv", tmp_path / "out"
        rows = pd.DataFrame({"slide": ["S1", "S2"], "area": [4.2, 3.9], "axis": [1.5, 2.5]})
        rows.to_csv(table, index=False)
        options = ("import-features", table, "--encoder", "areas", "--out", out)
        assert ask(*options).code == 0
        rows[:1].to_csv(table, index=False)
        assert "1 slide is no longer listed" in ask(*options).err
        assert sorted(path.stem for path in out.glob("*.h5")) == ["S1"]
        assert pd.read_csv(out / "slides.csv")["slide_id"].tolist() == ["S1"]


class TestAssociate:
    def test_other_predictions_leave_no_earlier_table(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        table, out = tmp_path / "predicted.csv", tmp_path / "out"

        def predicted() -> None:
            values = rng.normal(5, 1, (12, 30))
            names = [f"P{row}" for row in range(12)]
            pd.DataFrame(values, names, [f"G{i}" for i in range(30)]).to_csv(table)

        sets = tmp_path / "sets.gmt"
        sets.write_text("MINE\tx\t" + "\t".join(f"G{i}" for i in range(8)) + "\n")
        options = ("--predicted", table, "--set", "unit=log2(tpm+1)", "--sets", sets, "--out", out)
        predicted()
        assert ask("associate", *options).code == 0
        first = (out / "scores.csv").read_text()
        (out / "gsea.csv").write_text("of an earlier run")
        predicted()
        assert ask("associate", *options).code == 0
        assert (out / "scores.csv").read_text() != first
        assert not (out / "gsea.csv").exists()
        assert (out / "set-aside" / "scores.csv").read_text() == first
