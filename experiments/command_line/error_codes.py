"""Give each error a short code, which ``docs/reference/error_codes.md`` explains.

The code follows from the module that refused the input, so that a new error has a code without
being listed anywhere. A code names the kind of input that is wrong, not the single check.
"""

from __future__ import annotations

from types import TracebackType

OPTION, WRITE, OTHER = "E-option", "E-write", "E-input"

# Beginning of a module's name behind ``tcgn_mil.`` -> code. The longest beginning that fits counts.
CODES: dict[str, str] = {
    "config": "E-config",
    "settings": "E-config",
    "settings.model_names": "E-model",
    "experiments": "E-config",
    "registry": "E-config",
    "experiments.command_line": OPTION,
    "experiments.command_line.early": "E-path",
    "experiments.command_line.console": "E-failed",
    "experiments.engines": "E-device",
    "devices": "E-device",
    "training": "E-training",
    "folds": "E-folds",
    "io.fold_lists": "E-folds",
    "survival.folds": "E-folds",
    "types.folds": "E-folds",
    "io.tables": "E-table",
    "preprocessing.schemas": "E-table",
    "patient_rows": "E-names",
    "tcga_barcodes": "E-names",
    "preprocessing.slides": "E-slide",
    "preprocessing.tiles": "E-tiles",
    "types.tile_geometry": "E-tiles",
    "types.tiles": "E-tiles",
    "io.tile_files": "E-tiles",
    "preprocessing.interop": "E-tiles",
    "preprocessing.sections": "E-spots",
    "io.spot_files": "E-spots",
    "preprocessing.bulk": "E-expression",
    "preprocessing.gene_names": "E-expression",
    "io.expression_file": "E-expression",
    "io.cohort_file": "E-expression",
    "targets": "E-expression",
    "types.genes": "E-genes",
    "io.gene_list": "E-genes",
    "signatures": "E-genes",
    "hgnc": "E-genes",
    "preprocessing.clinical": "E-clinical",
    "io.clinical_file": "E-clinical",
    "types.outcomes": "E-clinical",
    "survival": "E-clinical",
    "preprocessing.features": "E-features",
    "io.feature_files": "E-features",
    "batches": "E-features",
    "types.features": "E-features",
    "models": "E-model",
    "checkpoints": "E-model",
    "inference": "E-model",
    "pathology": "E-model",
    "hub": "E-hub",
    "preprocessing.download": "E-hub",
    "experiments.runs": "E-run",
    "hdf5_limits": "E-file",
    "io": "E-file",
    "file_formats": "E-file",
    "resume": "E-run",
}


def code_of_module(module: str) -> str:
    """Return the code of the errors that a module raises.

    Examples
    --------
    >>> code_of_module("tcgn_mil.io.tables.delimited")
    'E-table'
    >>> code_of_module("tcgn_mil.plotting")
    'E-input'
    """
    parts = module.removeprefix("tcgn_mil.").split(".")
    for count in range(len(parts), 0, -1):
        code = CODES.get(".".join(parts[:count]))
        if code is not None:
            return code
    return OTHER


def code_of(error: BaseException) -> str:
    """Return the code of an error by the module that raised it."""
    return code_of_module(_module_of(error.__traceback__))


def _module_of(traceback: TracebackType | None) -> str:
    module = ""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("tcgn_mil."):
            module = name
        traceback = traceback.tb_next
    return module
