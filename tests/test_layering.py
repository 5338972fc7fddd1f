"""Tests of what loads on import, which must be run to be known.

The order of the folders is a contract of import-linter in pyproject.toml.
"""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "tcgn_mil": "tcgn_mil",
    "preprocessing": "tcgn_mil.preprocessing",
    "experiments": "tcgn_mil.experiments",
}
# What a machine needs to train and run models. pydantic checks the settings.
BARE_GPU_PACKAGES = {
    "torch",
    "timm",
    "numpy",
    "safetensors",
    "h5py",
    "lightning_fabric",
    "tqdm",
    "pydantic",
    "typing_extensions",
}
NEEDED_BY_TIMM = {"yaml", "_yaml", "PIL"}


def module_name(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[folder], *rest]).removesuffix(".__init__")


SOURCES = {
    module_name(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Modules a file imports; at top level means run on import (functions and TYPE_CHECKING blocks left out)."""
    pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and top_level_only:
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and top_level_only:
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_models_layers_and_training_run_on_a_bare_gpu_machine(module: str) -> None:
    if not module.startswith(
        ("tcgn_mil.models", "tcgn_mil.layers", "tcgn_mil.training.loop", "tcgn_mil.checkpoints")
    ):
        return
    allowed = BARE_GPU_PACKAGES | set(sys.stdlib_module_names) | {"tcgn_mil"}
    assert not {
        name
        for name in imports(SOURCES[module], top_level_only=True)
        if name.split(".")[0] not in allowed
    }


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_the_package_loads_no_torch() -> None:
    assert "torch" not in loaded_after(
        "import tcgn_mil, tcgn_mil.types.tiles, tcgn_mil.config, tcgn_mil.statistics.gene_metrics"
    )


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert not {"torch", "pandas", "anndata", "matplotlib", "sklearn"} & loaded_after(
        "import tcgn_mil.experiments.main"
    )


def test_preprocessing_loads_no_torch() -> None:
    names = [name for name in SOURCES if name.startswith("tcgn_mil.preprocessing")]
    assert "torch" not in loaded_after("import " + ", ".join(names))


BLOCKED_ELSEWHERE = """
import sys

class Without:
    # A finder that does not find some packages, as if they were not installed.
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {blocked} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
try:
    import pandas
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("pandas is not blocked")
import tcgn_mil.models, tcgn_mil.training.loop, tcgn_mil.checkpoints
import torch, timm
model = timm.create_model("tcgn_tiny", num_classes=3).train()
model(torch.zeros(2, 3, 224, 224)).sum().backward()
print("ran")
"""


def test_models_and_training_run_with_all_other_dependencies_blocked() -> None:
    """What setup.cfg asks for, less what a bare GPU machine has, cannot be imported; the model runs all the same."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].split()
    names = {re.split(r"[^\w.-]", line)[0] for line in lines}
    asked = {name.lower().replace("_", "-") for name in names} - {
        name.replace("_", "-") for name in BARE_GPU_PACKAGES
    }
    owners = importlib.metadata.packages_distributions()
    modules = {
        module
        for module, names in owners.items()
        if asked & {name.lower().replace("_", "-") for name in names}
    }
    blocked = modules - NEEDED_BY_TIMM
    assert blocked >= {
        "pandas",
        "anndata",
        "sklearn",
        "scanpy",
        "lifelines",
        "captum",
        "matplotlib",
    }
    found = subprocess.run(
        [sys.executable, "-c", BLOCKED_ELSEWHERE.format(blocked=blocked)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "ran\n", found.stderr[-1000:]
