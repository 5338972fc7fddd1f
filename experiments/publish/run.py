"""Publish a run: write a folder of safetensors, JSON and a model card, and upload it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tcgn_mil.checkpoints.file_format import ENCODER, SLIDE_MODEL
from tcgn_mil.checkpoints.published import CHECKED, write_digests
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.encoder_card import write_encoder_card
from tcgn_mil.experiments.publish.encoder_files import write_encoder
from tcgn_mil.experiments.publish.new_folder import new_folder
from tcgn_mil.experiments.publish.slide_model_card import write_slide_model_card
from tcgn_mil.experiments.publish.slide_model_files import write_slide_model
from tcgn_mil.experiments.runs.finished_run import Run
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run, run_kind
from tcgn_mil.hub import HUB_PREFIX, HubName, page_of, parse_hub_name, upload

_KINDS = {"pretrain": ENCODER, "finetune": SLIDE_MODEL}
_VERBS = "pretrain, finetune or slide-cv"


class Publication(NamedTuple):
    """A published model.

    Attributes
    ----------
    folder
        Folder of the files.
    kind
        ``encoder`` or ``slide-model``.
    page
        Address of the repository's page; None if nothing was uploaded.
    revision
        Hash of the commit; None if nothing was uploaded.
    """

    folder: Path
    kind: str
    page: str | None = None
    revision: str | None = None


def publish(config: PublishConfig, out_dir: str | Path) -> Publication:
    """Write the folder of a published model and, with ``config.to``, upload it.

    Parameters
    ----------
    config
        The run, and what it does not know.
    out_dir
        Folder to write. A folder that was published before is replaced.

    Raises
    ------
    InputError
        If the run is not a finished one of ``pretrain``, ``finetune`` or ``slide-cv``; if the
        folder holds something else; or if the upload is refused.
    """
    out_dir = Path(out_dir)
    name = None if config.to is None else parse_hub_name(config.to)
    # The name under which readers of the card open the model.
    source = out_dir.name if name is None else f"{HUB_PREFIX}{name}"
    kind = write_published(config, out_dir, source=source)
    if name is None:
        return Publication(out_dir, kind)
    return upload_published(out_dir, kind, name, private=config.private)


def write_published(config: PublishConfig, out_dir: Path, *, source: str) -> str:
    """Write the folder of a published model, and return its kind.

    Parameters
    ----------
    config, out_dir
        As for :func:`publish`.
    source
        Name under which the card tells readers to open the model.
    """
    folder = Path(config.run)
    if (held := run_kind(folder)) is not None and held not in _KINDS:
        raise InputError(
            f"holds a {held} run, which has no model to publish",
            path=folder,
            fix=f"give the folder of a run of {_VERBS}",
        )
    made = read_run(folder, kinds=_KINDS, verbs=_VERBS)
    kind = _KINDS[made["kind"]]
    run = Run(folder, made, finished_summary(folder) or {})
    with new_folder(out_dir) as temporary:
        if kind == ENCODER:
            write_encoder(folder, temporary, config.names)
            write_encoder_card(run, temporary, config, source)
        else:
            write_slide_model(folder, temporary, config.names)
            write_slide_model_card(run, temporary, config, source)
        write_digests(temporary, kind=kind)
    return kind


def upload_published(
    folder: Path, kind: str, name: HubName, *, private: bool = True
) -> Publication:
    """Upload a published folder as one commit.

    Files of an earlier publication that this one does not have are removed from the repository,
    because a model with the folds of two runs would be neither.
    """
    revision = upload(
        folder,
        name,
        private=private,
        message=f"Publish the {kind} by tcgn-mil",
        replace=CHECKED,
    )
    return Publication(folder, kind, page_of(name.repo), revision)
