"""Fenced code blocks of Markdown pages, and the commands of ``tcgn-mil`` in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^( *)```([\w{}-]+)([^\n]*)\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
_ASSIGNED = re.compile(r"^(\w+)=(\"[^\"]*\"|'[^']*'|\S+)$", flags=re.MULTILINE)
# Words of a shell after which a command begins.
_SEPARATORS = {"&&", "||", ";", "|", "do", "then"}


@dataclass(frozen=True)
class Block:
    """A fenced block: ```` ```bash run fails ```` has the language bash and the words run, fails.

    Attributes
    ----------
    page
        Path of the page.
    line
        Number of the line with the opening fence.
    language
        First word behind the fence.
    words
        The other words behind the fence.
    text
        What stands between the fences.
    """

    page: Path
    line: int
    language: str
    words: frozenset[str]
    text: str

    @property
    def name(self) -> str:
        """Name of the page and number of the line, for messages."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def written_pages() -> list[Path]:
    """Return the pages of the documentation that are not made by its build."""
    docs = ROOT / "docs"
    made = {docs / "generated", docs / "_build"}
    return [page for page in sorted(docs.rglob("*.md")) if not made & set(page.parents)]


def documentation_pages() -> list[Path]:
    """Return all pages with commands that are written by hand."""
    results = sorted((ROOT / "experiments" / "results").glob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *written_pages(), *results]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[2],
            frozenset(found[3].split()),
            found[4],
        )
        for found in _FENCED.finditer(text)
    ]


def commands_of(block: str, variables: dict[str, str] | None = None) -> Iterator[list[str]]:
    """Yield the arguments of each call of ``tcgn-mil`` in a block of shell commands.

    Parameters
    ----------
    block
        Text of the block. ``...`` stands for options that an earlier command has.
    variables
        Variables that earlier blocks of the page assign; those of this block are added.
    """
    variables = {} if variables is None else variables
    text = block.replace("\\\n", " ")
    variables |= {name: value.strip("\"'") for name, value in _ASSIGNED.findall(text)}
    text = _ASSIGNED.sub("", text)
    for name, value in variables.items():
        text = re.sub(rf"\${{?{name}\b}}?", lambda _, value=value: value, text)
    for line in text.splitlines():
        for command in _divide(_split(line)):
            if command[:1] == ["tcgn-mil"]:
                yield command[1:]


def _split(line: str) -> list[str]:
    """Split a line as a shell does; a line with an open quote has no words."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def _divide(words: list[str]) -> Iterator[list[str]]:
    """Divide the words of a line into its commands."""
    command: list[str] = []
    for word in words:
        ends = word.endswith(";") and word != ";"
        if word in _SEPARATORS:
            yield command
            command = []
            continue
        command.append(word.removesuffix(";") if ends else word)
        if ends:
            yield command
            command = []
    yield command
