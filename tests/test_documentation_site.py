"""Pages that the documentation makes from the code are complete; copied pages keep their links."""

from __future__ import annotations

from pathlib import Path

import page_links
import reference_pages

import tcgn_mil
from tcgn_mil.config.declare import keys_of, sections_of
from tcgn_mil.pathology import PATHOLOGY_ENCODERS

ROOT = page_links.ROOT
PAGES = page_links.copied_pages()


def test_a_page_of_config_keys_has_every_key() -> None:
    for name, (config_class, verbs) in reference_pages.CONFIGS.items():
        page = reference_pages.config_page(name, config_class, verbs)
        keys = set(keys_of(config_class)) - set(sections_of(config_class))
        plain = {key for key in keys if f"| `{key}` |" not in page}
        # A section within a section is a heading and no key.
        assert {key for key in plain if f"## {key}\n" not in page} == set()


def test_every_verb_has_a_page() -> None:
    names = reference_pages.verb_names()
    assert {"demo", "slide-cv", "report"} <= set(names)
    assert {f"verbs/{name}.md" for name in names} <= set(reference_pages.reference_pages())


def test_the_page_of_encoders_has_the_registry() -> None:
    page = reference_pages.encoders_page()
    for name, entry in PATHOLOGY_ENCODERS.items():
        assert f"| [{name}]({'https://huggingface.co/' + entry.hub}) |" in page
        assert entry.licence in page


def test_the_page_of_the_api_has_every_public_name() -> None:
    page = reference_pages.api_page()
    assert [name for name in tcgn_mil._PUBLIC if f"   tcgn_mil.{name}\n" not in page] == []


def test_links_of_a_copied_page_lead_to_copies() -> None:
    source = ROOT / "experiments" / "results" / "tcga.md"
    text = "[a](../../docs/protocol.md#splits) [b](intervals.md) ![c](tcga.png) [d](https://x.y)"
    assert page_links.relink(text, source, PAGES[source], PAGES) == (
        "[a](../../protocol.md#splits) [b](intervals.md)"
        " ![c](../../../experiments/results/tcga.png) [d](https://x.y)"
    )


def test_links_of_a_page_lead_to_copies_and_to_no_folder() -> None:
    page = ROOT / "docs" / "guides" / "runs.md"
    text = "[a](../../CONTRIBUTING.md#layout) [b](../../experiments/configs) [c](../../README.md)"
    assert page_links.relink(text, page, page, PAGES) == (
        "[a](../generated/contributing.md#layout) b [c](../index.md)"
    )


def test_code_keeps_its_brackets() -> None:
    text = "```python\nvalues[0](README.md)\n```\n"
    page = Path(ROOT / "CONTRIBUTING.md")
    assert page_links.relink(text, page, PAGES[page], PAGES) == text
