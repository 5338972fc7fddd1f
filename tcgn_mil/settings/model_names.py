"""Check the names of encoders and aggregators before torch is loaded, which takes seconds.

Models of timm are found in the source of the installed package, which is not imported for that.
Where torch is loaded already, as in a script that registers models of its own, nothing is refused
here: the registries of :mod:`tcgn_mil.models` know more then.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.pathology import close_names, find_entry

TIMM_PREFIX = "timm:"
# Names that tcgn_mil.models registers, in the order in which messages list them.
TCGN_NAMES = ("tcgn_ti", "tcgn_xs", "tcgn_tiny")
AGGREGATOR_NAMES = ("gated", "attention", "mean", "max", "transformer")
_FILES = (".safetensors", ".pth", ".pt", ".bin", ".yaml", ".yml")
_MODEL = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_FORMER_MODELS = re.compile(r"^register_model_deprecations\((.*?)^\}", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^\s*['\"](\w+)['\"]:", re.MULTILINE)


def check_encoder_name(source: str, option: str = "--encoder") -> None:
    """Refuse an encoder that is no file, no entry of the registry and no model of timm.

    Parameters
    ----------
    source
        Encoder as a user names it, without the prefixes ``hf-hub:`` and ``local-dir:``.
    option
        Option that names it, for the message.

    Raises
    ------
    InputError
        If there is none of this name. The message suggests names that are like it.
    """
    if "torch" in sys.modules or Path(source).expanduser().exists():
        return
    name, known = source.removeprefix(TIMM_PREFIX), timm_names()
    if not known or name.partition(".")[0] in known or name in TCGN_NAMES:
        return
    if name != source or find_entry(source) is None:
        raise unknown_encoder(source, {*TCGN_NAMES, *known}, option)


def unknown_encoder(source: str, names: Collection[str], option: str = "--encoder") -> InputError:
    """Return the error for an encoder that does not exist.

    Parameters
    ----------
    source
        What the user gave.
    names
        Models that exist beside those of the registry.
    option
        Option that names the encoder.

    Examples
    --------
    >>> print(unknown_encoder("timm:resnet10", {"resnet10t"}).fix)
    did you mean resnet10t?
    """
    if "/" in source or Path(source).suffix in _FILES:
        fix = "check the path; a repository on the hub is written hf-hub:owner/name"
        return InputError(f"{option} names a file that is not there", path=source, fix=fix)
    plain = source.removeprefix(TIMM_PREFIX)
    # Sorted, since names of a set that are equally close would come in a random order.
    close = close_names(plain) or difflib.get_close_matches(plain, sorted(names), n=3)
    if plain == source:
        reason = (
            f"there is no encoder {source!r} in the registry or in timm, and no file of this name"
        )
    else:
        reason = f"timm has no model {plain!r}, and no encoder of this name is registered"
    return InputError(
        reason,
        fix=f"did you mean {', '.join(close)}?"
        if close
        else "tcgn-mil encoders lists the registry",
    )


def check_aggregator_name(name: str) -> None:
    """Refuse a value of ``model.pooling`` that names no aggregator.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if "torch" not in sys.modules and name not in AGGREGATOR_NAMES:
        raise unknown_aggregator(name, AGGREGATOR_NAMES)


def unknown_aggregator(name: str, names: Collection[str]) -> InputError:
    """Return the error for a value of ``model.pooling`` that is none of `names`."""
    return InputError(
        f"model.pooling is {name!r}, and no aggregator has this name",
        fix=f"choose one of {', '.join(names)}",
    )


@cache
def timm_names() -> frozenset[str]:
    """Return the models of the installed timm, with former names, without importing it.

    It is empty if the source of timm cannot be read.

    Examples
    --------
    >>> "resnet18" in timm_names()
    True
    """
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    names = set[str]()
    for path in Path(spec.origin).with_name("models").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        names.update(_MODEL.findall(text))
        for former in _FORMER_MODELS.findall(text):
            names.update(_KEY.findall(former))
    return frozenset(names)
