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
NETWORKS = ("tcgn_mil.models", "tcgn_mil.layers", "tcgn_mil.training", "tcgn_mil.checkpoints")


def imported_on_load(path: Path) -> Iterator[str]:
    """Yield the packages that a file imports when it is loaded.

    Imports within functions and those for type checkers alone are left out.
    """
    pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith(NETWORKS)])
def test_networks_and_training_need_few_packages(module: str) -> None:
    allowed = BARE_GPU_PACKAGES | set(sys.stdlib_module_names) | {"tcgn_mil"}
    assert set(imported_on_load(SOURCES[module])) <= allowed


def loaded_after(statement: str) -> set[str]:
    """Return the packages that are loaded after a statement in a new interpreter."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    return set(done.stdout.split())


def test_importing_numbers_and_types_loads_no_torch() -> None:
    names = "tcgn_mil.types.tiles, tcgn_mil.config, tcgn_mil.settings.training"
    assert "torch" not in loaded_after(
        f"import tcgn_mil, {names}, tcgn_mil.statistics.gene_metrics"
    )


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "anndata", "matplotlib", "sklearn"}
    assert not heavy & loaded_after("from tcgn_mil.experiments.main import make_app; make_app()")


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
        if name.split(".")[0] in {blocked}:
            return None
        return self.finder.find_spec(name, path, target)

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
    """The model trains where only the packages of a bare GPU machine can be imported."""
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
