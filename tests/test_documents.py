"""Documents name only what exists, their Python runs, and their lines fit the screen."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from documented_commands import written_pages

ROOT = Path(__file__).parents[1]

FOLDERS = ("tcgn_mil", "preprocessing", "experiments")
GUIDES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *written_pages(),
]
PAGES = [*GUIDES, ROOT / "CHANGELOG.md", *sorted((ROOT / "experiments" / "results").glob("*.md"))]
WIDTH = 100
RECIPE_LINES = 15
FENCED = re.compile(r"^ *```([\w{}-]*)[^\n]*\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
PATH = re.compile(
    r"(?:\.ci|docs|tests|tcgn_mil|preprocessing|experiments)/(?:[\w.-]+/)*[\w.-]*[\w-]/?"
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its code blocks, which keep their number of lines."""
    text = page.read_text(encoding="utf-8")
    return FENCED.sub(lambda block: "\n" * block[0].count("\n"), text)


def code_blocks(page: Path, language: str) -> list[str]:
    blocks = FENCED.findall(page.read_text(encoding="utf-8"))
    return [block for kind, block in blocks if kind == language]


def anchors(page: Path) -> set[str]:
    """The names by which other pages can link to the headings of this page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.strip().replace(" ", "-") for word in words}


def recipes() -> dict[str, str]:
    """Title and text of each recipe of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = re.split(r"^## ", text.partition("\n## Recipes\n")[2], flags=re.MULTILINE)[0]
    sections = re.split(r"^### ", part, flags=re.MULTILINE)[1:]
    return {title: body for title, _, body in (text.partition("\n") for text in sections)}


def python_modules(text: str) -> Iterator[str]:
    """Dotted names in code spans and in commands that begin with the package's name."""
    yield from re.findall(r"\btcgn_mil(?:\.\w+)+", text)


def is_module_or_attribute(dotted: str) -> bool:
    """Whether `dotted` is a module, or a name that the source of a module mentions."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if spec := find_spec_or_none(".".join(parts[:end])):
            rest = parts[end:]
            assert spec.origin is not None
            source = Path(spec.origin).read_text(encoding="utf-8")
            return not rest or re.search(rf"\b{rest[0]}\b", source) is not None
    return False


def find_spec_or_none(dotted: str) -> object:
    try:
        return find_spec(dotted)
    except ModuleNotFoundError:
        return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_lines_fit_the_width(page: Path) -> None:
    """Rows of tables, and links that cannot be divided, may be longer."""
    long = [
        f"{name_of(page)}:{number}: {line}"
        for number, line in enumerate(prose(page).split("\n"), start=1)
        if len(line) > WIDTH and not line.startswith("|") and not re.fullmatch(r"\S+", line)
    ]
    assert long == []


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_code_lines_fit_the_width(page: Path) -> None:
    blocks = FENCED.findall(page.read_text(encoding="utf-8"))
    assert [line for _, block in blocks for line in block.split("\n") if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    """Only paths that begin with a folder of the repository are looked at."""
    spans = re.findall(r"`([^`\n]+)`", prose(page)) + code_blocks(page, "bash")
    paths = {
        match[0]
        for span in spans
        for match in PATH.finditer(span)
        if (match.start() == 0 or span[match.start() - 1] in " =\n") and "<" not in span
    }
    assert {path for path in paths if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_that_are_named_exist(page: Path) -> None:
    names = set(python_modules(page.read_text(encoding="utf-8")))
    assert {name for name in names if not is_module_or_attribute(name)} == set()


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_python_blocks_parse(page: Path) -> None:
    for block in code_blocks(page, "python"):
        ast.parse(block)


def test_the_guides_have_python() -> None:
    assert code_blocks(ROOT / "docs" / "guides" / "python.md", "python")
    assert code_blocks(ROOT / "CONTRIBUTING.md", "python")


def test_every_verb_is_in_the_table_of_verbs() -> None:
    from tcgn_mil.experiments.verbs import verbs

    page = ROOT / "docs" / "reference" / "verbs.md"
    rows = set(re.findall(r"^\| `([\w-]+)` \|", prose(page), flags=re.MULTILINE))
    assert rows == {verb.name for verb in verbs()} | {"report", "demo"}


def test_the_protocol_has_the_sections_that_docstrings_cite() -> None:
    cited = {
        section.strip()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for section in re.findall(
            r"docs/protocol\.md,\s+section\s+([A-Z][a-z]+(?:\s+[a-z]+){0,2}?)\s*[).,;]",
            path.read_text(encoding="utf-8"),
        )
    }
    titles = re.findall(r"^## (.*)$", prose(ROOT / "docs" / "protocol.md"), flags=re.MULTILINE)
    assert {" ".join(section.split()) for section in cited} <= set(titles)


def test_there_are_five_short_recipes() -> None:
    texts = recipes()
    assert list(texts) == [
        "A new encoder",
        "A new file format",
        "A new aggregator",
        "A new gene set",
        "A new verb",
    ]
    for title, body in texts.items():
        lines = [line for line in body.split("\n") if line.strip() and "```" not in line]
        assert len(lines) < RECIPE_LINES, title


def test_recipes_name_every_registry() -> None:
    named = set(re.findall(r"\bregister_\w+", "".join(recipes().values())))
    defined = {
        name
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"^def (register_\w+)", path.read_text(encoding="utf-8"), re.M)
    }
    assert named == defined


def test_recipes_run(tmp_path: Path) -> None:
    """Each Python block runs as it is printed, in an empty folder; one process, for its speed."""
    blocks = [block for body in recipes().values() for block in re.findall(FENCED, body)]
    script = tmp_path / "recipes.py"
    script.write_text("\n".join(block for kind, block in blocks if kind == "python"))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_the_guide_lists_every_folder_in_the_order_of_imports() -> None:
    listed = re.findall(r"^\| `([\w./]+)` \|", prose(ROOT / "CONTRIBUTING.md"), flags=re.MULTILINE)
    modules = [name.removesuffix("/").removesuffix(".py").replace("/", ".") for name in listed]
    on_disk = {
        f"{folder}.{path.stem}"
        for folder in FOLDERS
        for path in (ROOT / folder).iterdir()
        if not path.is_symlink()
        and path.name != "__init__.py"
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    assert set(modules) == on_disk
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = settings.partition("layers = [")[2].partition("]")[0]
    layers = re.findall(r'"(?:tcgn_mil\.(?=preprocessing|experiments))?([\w.]+)"', contract)
    assert modules == layers[::-1]
