"""Commands in README, documentation and results are ones that the command line takes.

Every command is parsed: its verb and options exist, and its values have the right type. Blocks that
are marked ``bash run`` are also run, in ``docs/checks``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from documented_commands import Block, blocks_of, commands_of, documentation_pages

from tcgn_mil.config.declare import keys_of
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.main import make_app
from tcgn_mil.experiments.slide_level.config import SlideCvConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.survive.config import SurviveConfig

CONFIGS = {
    "pretrain": SpotConfig,
    "spot-cv": SpotConfig,
    "finetune": SlideCvConfig,
    "slide-cv": SlideCvConfig,
    "associate": AssociationConfig,
    "survive": SurviveConfig,
}
WORDS = {"bash": {"run", "fails"}, "python": {"run"}}


@pytest.fixture(scope="module")
def verbs() -> dict[str, Any]:
    return typer.main.get_command(make_app()).commands


def parse(verbs: dict[str, Any], arguments: list[str], *, keys: bool = True) -> None:
    """Parse a command as the command line does, and check the keys of ``--set``; run nothing."""
    shortened = "..." in arguments
    verb, *options = [word for word in arguments if word != "..."]
    if verb == "--version":
        return
    assert verb in verbs, f"there is no verb {verb}"
    # A shortened command lacks what an earlier one has.
    context = verbs[verb].make_context(verb, options, resilient_parsing=shortened)
    if keys and verb in CONFIGS:
        known = set(keys_of(CONFIGS[verb]))
        unknown = {item.partition("=")[0] for item in context.params["overrides"] or ()} - known
        assert not unknown, f"{verb} has no config key {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("page", documentation_pages(), ids=lambda page: page.stem)
def test_every_command_is_one_that_the_command_line_takes(
    page: Path, verbs: dict[str, Any]
) -> None:
    variables: dict[str, str] = {}
    wrong = {}
    for block in blocks_of(page):
        if block.language not in ("bash", "sh"):
            continue
        for command in commands_of(block.text, variables):
            try:
                parse(verbs, command, keys="fails" not in block.words)
            except Exception as error:
                wrong[f"{block.name} tcgn-mil {' '.join(command)}"] = getattr(
                    error, "message", str(error)
                )
    assert wrong == {}


def test_the_words_behind_a_fence_are_known() -> None:
    """A misspelt word would leave a block out of the checks without a sign."""
    unknown = {
        block.name: sorted(block.words - WORDS.get(block.language, set()))
        for page in documentation_pages()
        for block in blocks_of(page)
        if not block.language.startswith("{") and block.words - WORDS.get(block.language, set())
    }
    assert unknown == {}


def test_commands_are_found_as_a_shell_finds_them() -> None:
    block = (
        'R="--spots spots"\n'
        "pip install . && tcgn-mil demo   # a comment\n"
        "tcgn-mil spot-cv $R \\\n    --out cv\n"
        "for c in a b; do tcgn-mil report $c; done\n"
    )
    assert list(commands_of(block)) == [
        ["demo"],
        ["spot-cv", "--spots", "spots", "--out", "cv"],
        ["report", "$c"],
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["tile", "slides", "--colour", "red"], "No such option"),
        (["tile", "slides", "--workers", "two"], "integer"),
        (["tile"], "slides"),
        (["paint"], "no verb paint"),
        (["slide-cv", "--set", "n_fold=4"], "no config key n_fold"),
    ],
)
def test_a_wrong_command_is_found(command: list[str], reason: str, verbs: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=reason) as found:
        parse(verbs, command)
    assert found.value


def test_blocks_have_a_line_and_words(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```bash run fails\ntcgn-mil\n```\n\n```text\nerror\n```\n")
    first, second = blocks_of(page)
    assert first == Block(page, 3, "bash", frozenset({"run", "fails"}), "tcgn-mil\n")
    assert second.language == "text"
