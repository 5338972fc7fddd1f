"""Tests that setup.cfg declares what the sources import, and that a missing extra is one line."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.extras import EXTRA_OF, has_extra, need_extra

ROOT = Path(__file__).parents[1]
SOURCES = ("tcgn_mil", "preprocessing", "experiments")
# Distributions whose modules have another name.
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "huggingface_hub": "huggingface-hub",
    "lightning_fabric": "lightning-fabric",
    "openslide": "openslide-python",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sksurv": "scikit-survival",
    "typing_extensions": "typing-extensions",
    "yaml": "pyyaml",
}
# Needed without an import of ours: OpenSlide's library, and what torch.utils.tensorboard imports.
IMPORTED_BY_OTHERS = {"openslide-bin", "tensorboard"}
# Packages of an extra that are imported only after another one of it was asked for.
COMES_WITH = {"geopandas": "spatialdata", "shapely": "spatialdata"}
TOOLS = {"docs", "test", "all"}


class Import(NamedTuple):
    package: str
    place: str
    is_lazy: bool  # inside a function, or for type checkers alone


def imports_of(node: ast.AST, place: str, is_lazy: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            names = [child.module or ""]
        for name in names:
            yield Import(name.split(".")[0], f"{place}:{child.lineno}", is_lazy)
        lazy_here = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        )
        yield from imports_of(child, place, is_lazy or lazy_here)


def trees() -> dict[str, ast.Module]:
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


@pytest.fixture(scope="module")
def third_party() -> list[Import]:
    ours = {*sys.stdlib_module_names, "tcgn_mil"}
    return [
        each
        for place, tree in trees().items()
        for each in imports_of(tree, place)
        if each.package not in ours
    ]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=;\[ ]", requirement, maxsplit=1)[0]


@pytest.fixture(scope="module")
def base() -> set[str]:
    return {name_of(line) for line in setup_cfg()["options"]["install_requires"].split("\n")} - {""}


@pytest.fixture(scope="module")
def extras() -> dict[str, set[str]]:
    section = setup_cfg()["options.extras_require"]
    return {key: {name_of(each) for each in section[key].split("\n")} - {""} for key in section}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_import_is_declared(third_party: list[Import], base: set[str]) -> None:
    optional = {*EXTRA_OF, *COMES_WITH}
    unknown = [
        each
        for each in third_party
        if DISTRIBUTION.get(each.package, each.package) not in base and each.package not in optional
    ]
    assert not unknown, "declare it in setup.cfg"


def test_packages_of_extras_are_imported_where_they_are_used(third_party: list[Import]) -> None:
    early = [
        each
        for each in third_party
        if each.package in {*EXTRA_OF, *COMES_WITH} and not each.is_lazy
    ]
    assert not early, "import it in the function that uses it, after need_extra"


def test_every_package_of_an_extra_is_asked_for(third_party: list[Import]) -> None:
    asked = set()
    for tree in trees().values():
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "need_extra":
                package = node.args[0]
                asked.add(
                    package.value
                    if isinstance(package, ast.Constant)
                    else constants[ast.unparse(package)]
                )
    used = {each.package for each in third_party}
    assert asked == {package for package in EXTRA_OF if package in used} == set(EXTRA_OF)


def test_nothing_is_declared_for_no_import(third_party: list[Import], base: set[str]) -> None:
    used = {DISTRIBUTION.get(each.package, each.package) for each in third_party}
    assert base - used == IMPORTED_BY_OTHERS


def test_extras_are_those_that_errors_name(extras: dict[str, set[str]], base: set[str]) -> None:
    declared = {
        package: extra
        for extra, packages in extras.items()
        if extra not in TOOLS
        for package in packages
    }
    expected = {**EXTRA_OF, **{package: EXTRA_OF[by] for package, by in COMES_WITH.items()}}
    assert declared == expected
    assert not base & set(declared)


def test_all_has_every_extra_and_the_tests_have_all() -> None:
    section = setup_cfg()["options.extras_require"]
    (line,) = section["all"].split()
    assert line == f"tcgn-mil[{','.join(sorted(set(section) - TOOLS))}]"
    assert "tcgn-mil[all]" in section["test"].split("\n")


def test_the_page_on_installation_lists_every_extra(extras: dict[str, set[str]]) -> None:
    page = (ROOT / "docs" / "start" / "install.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `\.\[(\w+)\]` \|", page, re.MULTILINE)) == sorted(extras)


@pytest.mark.parametrize("package", EXTRA_OF)
def test_a_missing_package_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert not has_extra(package)
    with pytest.raises(InputError) as caught:
        need_extra(package, "reading it", path="a.file")
    message = str(caught.value)
    assert message.startswith(f"a.file: reading it needs the package {package}, which is not inst")
    assert f"Fix: run: pip install 'tcgn-mil[{EXTRA_OF[package]}]'" in message
    assert "\n" not in message


def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "peft.py").write_text("import a_module_that_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    with pytest.raises(InputError, match=r"cannot be imported.*a_module_that_it_needs"):
        need_extra("peft", "training low-rank adapters")
