"""Render model cards: the README of a published model, with the head that the hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml

from tcgn_mil.checkpoints.published import CARD
from tcgn_mil.io.atomic import write_text
from tcgn_mil.pathology import PATHOLOGY_ENCODERS
from tcgn_mil.version import __version__

# Identifiers of licences that the hub knows; any other licence is "other" with a name.
HUB_LICENCES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "gpl-3.0",
        "lgpl-3.0",
        "mit",
        "mpl-2.0",
        "unlicense",
    }
)
_TAGS = ("pathology", "histology", "gene-expression", "whole-slide-images")
_SHOWN_GENES = 10


def write_card(folder: Path, template: str, facts: Mapping[str, Any]) -> None:
    """Render a template and write it as the card of a folder.

    Parameters
    ----------
    folder
        Folder of the published model.
    template
        Name of a file in ``templates``.
    facts
        Values of the template.
    """
    write_text(folder / CARD, render(template, {**facts, "version": __version__}))


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Return the text that a template makes of some facts; a missing fact is an error."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; names from data pass through the filters below
        loader=jinja2.FunctionLoader(_template),
    )
    environment.filters |= {
        "code": code,
        "cell": cell,
        "r3": three_digits,
        "interval": interval,
        "percent": percent,
        "number": lambda value: f"{value:g}",
        "python": json.dumps,
    }
    return environment.get_template(template).render(**facts)


def head_of(licence: str | None, tags: Sequence[str]) -> str:
    """Return the YAML head of a card.

    Parameters
    ----------
    licence
        Licence of the weights; None if it is not stated.
    tags
        Tags beside those that all models of the package have.

    Examples
    --------
    >>> print(head_of("CC-BY-4.0", ["encoder"]))
    ---
    license: cc-by-4.0
    library_name: tcgn-mil
    tags:
    - pathology
    - histology
    - gene-expression
    - whole-slide-images
    - encoder
    ---
    """
    head: dict[str, Any] = {"license": "other", "license_name": "not-stated"}
    if licence is not None and licence.lower() in HUB_LICENCES:
        head = {"license": licence.lower()}
    elif licence is not None:
        head["license_name"] = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    head |= {"library_name": "tcgn-mil", "tags": [*_TAGS, *tags]}
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def citation(name: str) -> str:
    """Return the sentences that say what to cite for a model."""
    return (
        f"Name this model ({name}, with the revision that you used) and the data that it was"
        " trained on. The network TCGN is by Xiao et al., *Medical Image Analysis* 2024."
    )


def shown_genes(genes: Sequence[str]) -> str:
    """Return the first genes of a panel as text.

    Examples
    --------
    >>> shown_genes(["GZMA", "PRF1"])
    '`GZMA`, `PRF1`'
    """
    shown = ", ".join(code(gene) for gene in genes[:_SHOWN_GENES])
    more = len(genes) - _SHOWN_GENES
    return f"{shown} and {more} more" if more > 0 else shown


def licence_of_encoder(identity: str) -> str | None:
    """Return the licence of an encoder of the registry; None if it is not one of these.

    The weights of a slide model depend on its encoder, whose licence may restrict what can be made
    with it.

    Parameters
    ----------
    identity
        Identity of the encoder as features hold it: it begins with the name of the encoder, or with
        the name that another tool gives it, after a prefix such as ``trident:``.
    """
    name = identity.rpartition(":")[2].lower()
    fitting = {
        len(alias): entry
        for entry in PATHOLOGY_ENCODERS.values()
        for alias in (entry.name, entry.hub, entry.hub.rpartition("/")[2], *entry.aliases)
        if re.match(rf"{re.escape(alias.lower())}(?![a-z0-9])", name)
    }
    if not fitting:
        return None
    entry = fitting[max(fitting)]  # uni2-h is not uni
    return f"{entry.licence} ({entry.name}; {entry.citation})"


def code(text: object) -> str:
    """Return a text as code in Markdown, without what could end the code, a cell or a line."""
    return f"`{_flat(text).replace('`', chr(39))}`"


def cell(text: object) -> str:
    """Return a text for a cell of a table."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", _flat(text))


def _flat(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "¦")


def three_digits(value: float | None) -> str:
    """Return a number with three digits after the point; NA if it is missing.

    Examples
    --------
    >>> three_digits(0.27449), three_digits(None)
    ('0.274', 'NA')
    """
    return "NA" if value is None else f"{value:.3f}"


def interval(row: Mapping[str, Any], low: str, high: str) -> str:
    """Return the interval of a row in brackets; empty if it has none."""
    if row.get(low) is None or row.get(high) is None:
        return ""
    return f" ({row[low]:.3f} to {row[high]:.3f})"


def percent(share: float) -> str:
    """Return a share as per cent with one digit.

    Examples
    --------
    >>> percent(0.9347)
    '93.5 %'
    """
    return f"{100 * share:.1f} %"


def _template(name: str) -> str:
    return (files("tcgn_mil.experiments.publish") / "templates" / name).read_text(encoding="utf-8")
