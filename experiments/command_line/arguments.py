"""Prepare the command line before it is parsed: options of the whole command, and former names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

# Options that hold for every verb. They may stand before or after the verb.
_FLAGS = ("--quiet", "--verbose", "--json")
_WITH_VALUE = ("--log-file",)

# (verb, former name) -> present name, and the version in which the former one is removed.
FORMER_NAMES: dict[tuple[str, str], tuple[str, str]] = {
    ("explain", "--slide-model"): ("--model", "0.3"),
    ("survive", "--signatures"): ("--sets", "0.3"),
    ("finetune", "--model"): ("--kind", "0.3"),
    ("slide-cv", "--model"): ("--kind", "0.3"),
}


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Move the options of the whole command before the verb.

    What stands after ``--`` is left as it is.

    Examples
    --------
    >>> hoisted(["tile", "slides", "--quiet", "--log-file", "tile.log"])
    ['--quiet', '--log-file', 'tile.log', 'tile', 'slides']
    """
    first, rest = list[str](), list[str]()
    left = list(arguments)
    while left:
        each = left.pop(0)
        if each == "--":
            rest += [each, *left]
            break
        if each in _FLAGS or each.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            first.append(each)
        elif each in _WITH_VALUE and left:
            first += [each, left.pop(0)]
        else:
            rest.append(each)
    return [*first, *rest]


def verb_of(arguments: Sequence[str]) -> str:
    """Return the verb of a command line whose options for all verbs were moved to its front.

    Examples
    --------
    >>> verb_of(["--log-file", "a.log", "--quiet", "tile", "slides"])
    'tile'
    """
    left = list(arguments)
    while left:
        each = left.pop(0)
        if each in _WITH_VALUE:
            del left[:1]
        elif not each.startswith("-"):
            return each
    return ""


def with_present_names(arguments: Sequence[str]) -> list[str]:
    """Replace former names of options by the present ones, with a warning.

    Examples
    --------
    >>> with_present_names(["tile", "slides", "--out", "tiles"])
    ['tile', 'slides', '--out', 'tiles']
    """
    verb = verb_of(arguments)
    renamed = []
    for each in arguments:
        name, equals, value = each.partition("=")
        present = FORMER_NAMES.get((verb, name))
        if present is None:
            renamed.append(each)
            continue
        new, version = present
        sys.stderr.write(
            f"warning: {name} of {verb} is now called {new}; the old name goes in version"
            f" {version}\n"
        )
        renamed.append(f"{new}{equals}{value}")
    return renamed
