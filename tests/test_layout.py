"""Files are short, folders are small, and every file says in its first line what it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("tcgn_mil", "preprocessing", "experiments")
MAX_LINES, MAX_MODULES, MAX_CHARACTERS = 350, 14, 100
# A note to a checker has to stand on the line that it is about.
PRAGMA = re.compile(r"\s+# (type: ignore|noqa)\b.*$")
QUESTION_WORDS = {"what", "which", "where", "how", "who", "when", "why"}


def python_files(*folders: str) -> Iterator[Path]:
    """Yield files. `rglob` does not follow the links from tcgn_mil to the two other folders."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def listed(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def test_no_file_is_long() -> None:
    long = [
        path
        for path in python_files(*SOURCES)
        if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES
    ]
    assert not listed(long)


def test_no_folder_has_many_modules() -> None:
    modules: dict[Path, int] = {}
    for path in python_files(*SOURCES):
        if path.name != "__init__.py":
            modules[path.parent] = modules.get(path.parent, 0) + 1
    assert not listed([folder for folder, count in modules.items() if count > MAX_MODULES])


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in python_files(*SOURCES)}
    assert not listed(
        [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    )


def test_every_module_says_what_it_does() -> None:
    silent = [path for path in python_files(*SOURCES) if not docstring(path)]
    assert not listed(silent)
    unfinished = [path for path in python_files(*SOURCES) if "TODO" in docstring(path)]
    assert not listed(unfinished)


@pytest.mark.parametrize("folder", [*SOURCES, "tests"])
def test_no_module_opens_with_a_question_word(folder: str) -> None:
    opening = [
        path
        for path in python_files(folder)
        if docstring(path).split(maxsplit=1)[:1]
        and docstring(path).split(maxsplit=1)[0].lower() in QUESTION_WORDS
    ]
    assert not listed(opening)


def test_no_line_is_long() -> None:
    long = [
        f"{path.relative_to(ROOT).as_posix()}:{number}"
        for path in python_files(*SOURCES, "tests")
        if "reference" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(PRAGMA.sub("", line)) > MAX_CHARACTERS
    ]
    assert not long
