"""Measure time and memory of joining a cohort's expression to its slides, for each kind of file.

    python -m tcgn_mil.experiments.benchmarks.join --work bench --out join.json

The input is a synthetic table of 20,000 genes x 1,000 samples with TCGA names (log2(TPM + 1), four
decimals), and a manifest of 1,000 slides. ``tcgn-mil bulk`` runs from reading to cohort.h5ad in a
process of its own, for its peak memory. For comparison, the time is given that the C parser of
pandas (or pyarrow) needs to read the table alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.io.atomic import write_json
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.slides.names import list_slides

GENES, SAMPLES = 20_000, 1_000
UNIT = "log2(tpm+1)"


def make_tables(folder: Path, genes: int, samples: int) -> dict[str, Path]:
    """Write the manifest and each form of the table if they are missing; return the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    patients = [f"TCGA-{number % 36:02d}-{number:04d}" for number in range(samples)]
    slides = pd.DataFrame(
        {"slide_id": [f"{name}-01Z-00-DX1" for name in patients], "patient_id": patients}
    )
    slides.to_csv(folder / "slides.csv", index=False)
    paths = {
        "csv, samples x genes": folder / "samples.csv",
        "tsv, genes x samples": folder / "genes.tsv",
        "tsv.gz, genes x samples": folder / "genes.tsv.gz",
        "parquet, samples x genes": folder / "samples.parquet",
    }
    if all(path.exists() for path in paths.values()):
        return paths
    rng = np.random.default_rng(0)
    linear = rng.lognormal(0, 2, (samples, genes)) * (rng.random((samples, genes)) > 0.3)
    logs = np.log2(linear / linear.sum(axis=1, keepdims=True) * 1e6 + 1).round(4).astype(np.float32)
    columns = [f"GENE{number}" for number in range(genes)]
    table = pd.DataFrame(
        logs, index=[f"{name}-01A-11R-A00Z-07" for name in patients], columns=columns
    )
    table.to_csv(paths["csv, samples x genes"], float_format="%.4f")
    table.T.to_csv(paths["tsv, genes x samples"], sep="\t", float_format="%.4f")
    table.T.to_csv(
        paths["tsv.gz, genes x samples"],
        sep="\t",
        float_format="%.4f",
        compression={"method": "gzip", "compresslevel": 4},
    )
    table.to_parquet(paths["parquet, samples x genes"])
    return paths


def bare(path: Path) -> float:
    """Return the seconds that the parser alone needs."""
    start = time.perf_counter()
    if path.suffix == ".parquet":
        pd.read_parquet(path)
    else:
        pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",", index_col=0)
    return time.perf_counter() - start


def join_once(path: Path, manifest: Path, out: Path) -> dict[str, Any]:
    """Return seconds and peak memory of the whole verb."""
    start = time.perf_counter()
    summary = write_cohort([path], list_slides(manifest), out, BulkConfig(unit=UNIT))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": round(seconds, 2),
        "peak_gib": round(peak, 2),
        "patients": summary.patients,
        "genes": summary.genes,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("bench"), help="folder for the tables, which are kept"
    )
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--out", type=Path, default=Path("join.json"))
    asked = parser.parse_args()
    folder = asked.work / f"join_{asked.genes}x{asked.samples}"
    measured = {}
    context = multiprocessing.get_context("spawn")
    for kind, path in make_tables(folder, asked.genes, asked.samples).items():
        with context.Pool(1) as pool:
            seconds = pool.apply(bare, (path,))
        with context.Pool(1) as pool:
            joined = pool.apply(
                join_once, (path, folder / "slides.csv", folder / "out" / "cohort.h5ad")
            )
        measured[kind] = {**joined, "bare_parser_s": round(seconds, 2)}
        sys.stdout.write(f"{kind}: {json.dumps(measured[kind])}\n")
    write_json(asked.out, measured)


if __name__ == "__main__":
    main()
