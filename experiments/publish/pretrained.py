"""Encoders and slide models as objects, for notebooks: open, predict and publish them.

A published model is named by its folder, or by its repository on the hub::

    model = tcgn_mil.SlideModel.from_pretrained("owner/name@revision")
    predicted = model.predict("features")
    tcgn_mil.SlideModel.from_pretrained("slide-model").push_to_hub("owner/name")
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from anndata import AnnData
from torch import nn

from tcgn_mil.checkpoints import EncoderInfo, load_encoder
from tcgn_mil.checkpoints.file_format import ENCODER, SLIDE_MODEL, SUFFIX
from tcgn_mil.checkpoints.published import CARD, CHECKED, ENCODER_FILE, ModelFolder, open_model
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.model import find_slide_model, open_for_features
from tcgn_mil.experiments.predict.patients import predict_patients
from tcgn_mil.experiments.predict.tables import prediction_table
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import upload_published, write_published
from tcgn_mil.hub import HUB_PREFIX, parse_hub_name
from tcgn_mil.inference.fold_models import FoldModel, load_fold_models, union_panel
from tcgn_mil.inference.tile_encoder import TileEncoder, open_encoder
from tcgn_mil.io.failures import failure_table
from tcgn_mil.io.feature_files import find_features
from tcgn_mil.io.gene_list import read_model_genes
from tcgn_mil.settings.patient_names import NameTreatment
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class Encoder:
    """A spot encoder of ``tcgn-mil pretrain`` with its head.

    Attributes
    ----------
    folder
        Folder of the files, and the repository that they come from.
    path
        The checkpoint.
    model
        Network in evaluation mode on the CPU, from images to standardised expression of the genes.
    info
        Genes, target statistics, size of the tiles and provenance.
    """

    folder: ModelFolder
    path: Path
    model: nn.Module
    info: EncoderInfo

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Encoder:
        """Open an encoder from a file, a folder or the hub; its digests are checked.

        Parameters
        ----------
        source
            An ``encoder.safetensors``; folder that ``pretrain`` or ``publish`` wrote; or
            ``owner/name``, ``owner/name@revision``, with or without ``hf-hub:``. What exists as a
            path is read from there.

        Raises
        ------
        InputError
            If there is no such encoder, it cannot be downloaded, it is a model of another kind, or
            a file was changed since it was published.
        """
        path = Path(source)
        if path.suffix == SUFFIX:
            folder = ModelFolder(path.parent)
        else:
            folder = open_model(hub_name_or_path(source), kind=ENCODER)
            path = folder.path / ENCODER_FILE
        return cls(folder, path, *load_encoder(path))

    @cached_property
    def tile_encoder(self) -> TileEncoder:
        """The encoder without its head, for :func:`tcgn_mil.encode_slide`."""
        return open_encoder(str(self.path))

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = True,
        licence: str | None = None,
        data_licence: str | None = None,
        names: NameTreatment = "hashed",
    ) -> str:
        """Publish the encoder, as :meth:`SlideModel.push_to_hub` publishes a slide model."""
        stated = {"licence": licence, "data_licence": data_licence, "names": names}
        return _push(self.folder, ENCODER, name, private=private, stated=stated)


@dataclass(frozen=True)
class SlideModel:
    """The slide models of all folds of a run, with what a prediction needs beside them.

    Attributes
    ----------
    folder
        Folder of the files, and the repository that they come from.
    models
        Model of each fold.
    """

    folder: ModelFolder
    models: tuple[FoldModel, ...]

    @classmethod
    def from_pretrained(cls, source: str | Path) -> SlideModel:
        """Open a slide model from a folder or the hub; its digests are checked.

        Parameters
        ----------
        source
            Folder that ``finetune``, ``slide-cv`` or ``publish`` wrote; or ``owner/name``,
            ``owner/name@revision``, with or without ``hf-hub:``. What exists as a path is read from
            there.

        Raises
        ------
        InputError
            If there is no such model, it cannot be downloaded, it is a model of another kind, or a
            file was changed since it was published.
        """
        folder = find_slide_model(hub_name_or_path(source))
        return cls(folder, tuple(load_fold_models(folder.path)))

    @property
    def panel(self) -> GenePanel:
        """Genes that any of the folds predicts."""
        return union_panel(self.models)

    @property
    def unit(self) -> str:
        """Unit of the predictions."""
        return self.models[0].info.unit

    @cached_property
    def genes(self) -> Any:
        """Table with one row per gene: r, p, q, and the width of its interval."""
        return read_model_genes(self.folder.path)

    def predict(
        self, features: str | Path | Iterable[str | Path], *, allow_other_size: bool = False
    ) -> AnnData:
        """Predict the patients of feature files, as ``tcgn-mil predict`` does.

        Parameters
        ----------
        features
            Folder that ``encode`` or ``import-features`` wrote, one feature file, or several.
        allow_other_size
            Accept tiles of another physical size than those of the model.

        Returns
        -------
        AnnData
            Patients x genes in the unit of training, with the layers ``sd``, ``low`` and ``high``;
            ``obs`` has the relation to the training patients and the comparison with them.
            ``uns["failures"]`` lists slides that could not be predicted, about which there is a
            warning as well.

        Raises
        ------
        InputError
            If no slide could be predicted.
        """
        files = _feature_files(features)
        opened = open_for_features(self.folder, self.models, files)
        predictions, failures = predict_patients(opened, files, allow_other_size=allow_other_size)
        if not predictions:
            raise InputError(
                f"no slide could be predicted: {failures[0].reason}", fix=failures[0].likely_fix
            )
        config = PredictConfig(
            model=str(self.folder),
            features=", ".join(sorted({str(path.parent) for path in files.values()})),
            maps=False,
            allow_other_size=allow_other_size,
        )
        table = prediction_table(opened, predictions, config)
        if failures:
            lost = preview([failure.slide for failure in failures])
            warnings.warn(f"not predicted: {lost} ({failures[0].reason})", stacklevel=2)
        table.uns["failures"] = failure_table(failures)
        table.strings_to_categoricals()  # as when it is read from predicted.h5ad
        return table

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = True,
        licence: str | None = None,
        data_licence: str | None = None,
        names: NameTreatment = "hashed",
    ) -> str:
        """Publish the model with a card, as ``tcgn-mil publish --to`` does.

        A model that was opened from a published folder or from the hub is uploaded as it is, with
        its card; the last three parameters can then not be given.

        Parameters
        ----------
        name
            ``owner/name`` or ``owner/name@branch``.
        private
            Whether a repository that is made now is private.
        licence, data_licence
            Licences of the weights and of the training data, for the card.
        names
            Treatment of names of patients and slides: ``hashed``, ``kept`` or ``removed``.

        Returns
        -------
        str
            Hash of the commit.

        Raises
        ------
        InputError
            If nobody is logged in, the account may not write there, or the hub cannot be reached.
        """
        stated = {"licence": licence, "data_licence": data_licence, "names": names}
        return _push(self.folder, SLIDE_MODEL, name, private=private, stated=stated)


def hub_name_or_path(source: str | Path) -> str | Path:
    """Return a path that exists as it is, and a name of a repository with ``hf-hub:``.

    Examples
    --------
    >>> hub_name_or_path("owner/name@v2"), hub_name_or_path(".")
    ('hf-hub:owner/name@v2', '.')
    """
    text = str(source)
    if text.startswith(HUB_PREFIX) or Path(source).exists() or isinstance(source, Path):
        return source
    try:
        return f"{HUB_PREFIX}{parse_hub_name(text)}"
    except InputError:
        raise InputError(
            "is no folder here, and no name of a repository on the hub",
            path=text,
            fix="check the path, or write owner/name",
        ) from None


def _feature_files(features: str | Path | Iterable[str | Path]) -> dict[str, Path]:
    """Return the feature file of each slide of a folder, a file or several files."""
    if isinstance(features, (str, Path)):
        if Path(features).is_dir():
            return find_features(features)
        features = [features]
    files = {Path(path).stem: Path(path) for path in features}
    if missing := [str(path) for path in files.values() if not path.is_file()]:
        raise InputError(
            f"no such feature file: {preview(missing)}",
            fix="give a folder that tcgn-mil encode or import-features wrote, or files of it",
        )
    return dict(sorted(files.items()))


def _push(
    folder: ModelFolder, kind: str, name: str, *, private: bool, stated: Mapping[str, Any]
) -> str:
    """Upload a published folder, or publish a run and upload that; return the commit."""
    hub_name = parse_hub_name(name)
    with tempfile.TemporaryDirectory() as parent:
        made = Path(parent) / hub_name.repo.rpartition("/")[2]
        if folder.kind is None:
            config = PublishConfig(run=str(folder.path), to=name, private=private, **stated)
            write_published(config, made, source=f"{HUB_PREFIX}{hub_name}")
        else:
            if given := [key for key, value in stated.items() if value not in (None, "hashed")]:
                raise InputError(
                    f"{' and '.join(given)} cannot be changed: the model is published already",
                    path=folder.path,
                    fix="edit its card on its page, or publish the run again",
                )
            made.mkdir()
            for path in (path for each in (*CHECKED, CARD) for path in folder.path.glob(each)):
                shutil.copyfile(path, made / path.name)
        revision = upload_published(made, kind, hub_name, private=private).revision
    assert revision is not None
    return revision
