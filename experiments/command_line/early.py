"""Check options, and that the inputs of a verb exist, before anything slow is imported or read.

Torch takes seconds to load, and the tables and slides of a cohort take minutes to read. A mistyped
path is found here in the time that ``--help`` takes. What is inside the files is checked where they
are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.settings.model_names import check_encoder_name

# Starts of names that are no path of this machine.
_ELSEWHERE = ("hf-hub:", "local-dir:", "timm:hf-hub:", "timm:local-dir:")
_WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".yaml", ".yml")


@dataclass(frozen=True)
class Needed:
    """A file or folder that a verb reads.

    Attributes
    ----------
    path
        The path; None if the verb is to run without it.
    option
        Option that names it, for the message.
    made_by
        Verb that writes such a file or folder, or several as in ``encode or import-features``;
        None if the user brings it.
    """

    path: str | Path | None
    option: str
    made_by: str | None = None


def check_inputs(*needed: Needed) -> None:
    """Refuse the first path that does not exist.

    Raises
    ------
    InputError
        If a file or folder is missing. The message names the option and the verb that writes it.

    Examples
    --------
    >>> check_inputs(Needed(None, "--folds"))
    >>> check_inputs(Needed("no/such/folder", "--spots", "spots"))
    Traceback (most recent call last):
    ...
    tcgn_mil.errors.InputError: no/such/folder: there is no such file or folder (--spots). \
Fix: correct --spots, or run tcgn-mil spots first
    """
    for each in needed:
        if each.path is None or Path(each.path).expanduser().exists():
            continue
        made = f", or run tcgn-mil {each.made_by} first" if each.made_by else ""
        raise InputError(
            f"there is no such file or folder ({each.option})",
            path=each.path,
            fix=f"correct {each.option}{made}",
        )


def refuse_beside_compare(others: Sequence[Any]) -> None:
    """Refuse options beside ``--compare``, on which they would have no effect."""
    if any(value not in (None, False) for value in others):
        raise InputError(
            "--compare reads two finished runs and takes no other option than --out",
            fix="remove the other options",
        )


def check_model(model: str, option: str = "--model") -> None:
    """Refuse a slide model that is neither a folder nor a name on the hub."""
    if not model.startswith(_ELSEWHERE):
        check_inputs(Needed(model, option, "finetune or slide-cv"))


def check_encoder(
    encoder: str | None, option: str = "--encoder", *, model: str | None = None
) -> None:
    """Refuse an encoder that does not exist, as far as this can be told without torch.

    Parameters
    ----------
    encoder
        The encoder; None if the verb is to run without one.
    option
        Option that names it, for the message.
    model
        Value of ``--encoder-model``.
    """
    if model is not None:
        check_encoder_name(model, "--encoder-model")
    if encoder is None or encoder.startswith(_ELSEWHERE):
        return
    if Path(encoder).suffix in _WEIGHT_FILES:
        check_inputs(Needed(encoder, option, "pretrain"))
    check_encoder_name(encoder, option)
