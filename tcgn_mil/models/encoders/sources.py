"""Find an encoder by what a user names: the registry, the hub, a folder, a file, or timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.hub import HUB_PREFIX, HubFileError, HubName, download, page_of, parse_hub_name
from tcgn_mil.models.encoders.registered import ENCODERS
from tcgn_mil.pathology import PathologyEncoder, find_entry
from tcgn_mil.settings.model_names import TIMM_PREFIX, unknown_encoder

LOCAL_PREFIX = "local-dir:"
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_BICUBIC = 3  # number of this interpolation in the configurations of transformers
_WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "model.bin",
)
_LARGEST_CONFIG = 1 << 20  # bytes


@dataclass(frozen=True)
class EncoderSource:
    """An encoder that was named, before anything is downloaded or built.

    Attributes
    ----------
    name
        Name without prefix: of the registry, of timm, of a network of your own, or empty if the
        configuration in the folder has to tell.
    entry
        Its entry in the registry, if it has one.
    hub, folder, file
        Where the weights are; all None for a model of timm by name.
    """

    name: str
    entry: PathologyEncoder | None = None
    hub: HubName | None = None
    folder: Path | None = None
    file: Path | None = None

    @property
    def is_described(self) -> bool:
        """Whether an entry or a stored configuration describes it; else its name is enough."""
        return self.entry is not None or self.hub is not None or self.folder is not None


@dataclass(frozen=True)
class LocalWeights:
    """Files of an encoder on this machine.

    Attributes
    ----------
    file
        File of the weights.
    config
        Configuration that stands beside the weights; empty without one.
    record
        Source and revision, for the files that are made with the encoder.
    """

    file: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, str] = field(default_factory=dict)


def parse_source(source: str, model: str | None = None) -> EncoderSource:
    """Read what a user gave as an encoder.

    Parameters
    ----------
    source
        Name in the registry, YAML file with an entry, ``hf-hub:owner/name``, ``local-dir:folder``,
        ``timm:name`` or a bare name of timm, or a file of weights.
    model
        Name in the registry or of timm that a folder or file of weights belongs to.

    Raises
    ------
    InputError
        If there is nothing of this name. The message suggests names that are like it.
    """
    # timm's own notation may stand behind its prefix.
    for prefix in (HUB_PREFIX, LOCAL_PREFIX):
        if source.startswith(TIMM_PREFIX + prefix):
            source = source.removeprefix(TIMM_PREFIX)
    if source.startswith(LOCAL_PREFIX):
        folder = Path(source.removeprefix(LOCAL_PREFIX)).expanduser()
        if not folder.is_dir():
            raise InputError("no such folder", path=folder, fix="check the path after local-dir:")
        entry = _entry_of(model) if model else None
        return EncoderSource(_plain_name(model, entry), entry, folder=folder)
    if source.startswith(HUB_PREFIX):
        entry = _entry_of(model) if model else find_entry(source)
        return EncoderSource(_plain_name(model, entry), entry, hub=parse_hub_name(source))
    path = Path(source).expanduser()
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return _weights_file(path, model)
    if path.is_dir():
        raise InputError(
            "is a folder", path=path, fix=f"write {LOCAL_PREFIX}{path} if it holds an encoder"
        )
    if model:
        raise InputError(
            f"--encoder-model is given, but {source} is no file or folder of weights",
            fix="remove --encoder-model, or check the path",
        )
    name = source.removeprefix(TIMM_PREFIX)
    entry = find_entry(source) if name == source else None
    if entry is None and name not in ENCODERS and not timm.is_model(name):
        raise unknown_encoder(source, _models())
    if entry is None:
        return EncoderSource(name)
    # A repository may be named without hf-hub:, and then with a revision.
    is_repo = source.partition("@")[0].lower() == entry.hub.lower()
    return EncoderSource(entry.name, entry, hub=parse_hub_name(source if is_repo else entry.hub))


def find_weights(source: EncoderSource) -> LocalWeights:
    """Find the weights and the configuration of an encoder, and download them if need be.

    Raises
    ------
    InputError
        If they cannot be downloaded, or a file is missing.
    """
    note = source.entry.access if source.entry else ""
    own = source.entry.weights if source.entry else None
    if source.file is not None:
        return LocalWeights(source.file, record={"source": source.file.name})
    if source.folder is not None:
        return LocalWeights(
            _weights_in(source.folder, own),
            read_config(source.folder),
            {"source": f"{LOCAL_PREFIX}{source.folder.name}"},
        )
    assert source.hub is not None
    names = (own,) if own else _WEIGHTS
    # Some repositories have no safetensors file; that of torch is read without unpickling code.
    for name in names:
        try:
            found = download(source.hub, [_CONFIG, _PREPROCESSOR, name], note=note)
        except HubFileError:
            continue
        if (found.path / name).is_file():
            record = {"source": f"{HUB_PREFIX}{source.hub.repo}", "revision": found.revision}
            return LocalWeights(found.path / name, read_config(found.path), record)
    raise HubFileError(
        f"the repository {source.hub} has no file of weights ({', '.join(names)})",
        path=page_of(source.hub.repo),
        fix="check the name of the repository on its page",
    )


def find_config(source: EncoderSource) -> dict[str, Any]:
    """Return the configuration that stands beside the weights of a source, without the weights.

    An encoder of the registry needs none.
    """
    if source.folder is not None:
        return read_config(source.folder)
    if source.hub is None or source.entry is not None:
        return {}
    return read_config(download(source.hub, [_CONFIG]).path)


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` beside the weights; empty if there is none.

    Of a repository of transformers, the normalisation of its images is added under the key
    ``pretrained_cfg``, as repositories of timm have it.

    Raises
    ------
    InputError
        If a file is no JSON mapping, or is very large.
    """
    config = _read_json(folder / _CONFIG)
    if "model_type" not in config:
        return config
    images = _read_json(folder / _PREPROCESSOR)
    # The cut comes after the resizing, and the network's own size is that of its training.
    sizes = (images.get("crop_size"), images.get("size"), config.get("image_size"))
    side = next((side for size in sizes if (side := _side(size)) is not None), 224)
    stored: dict[str, Any] = {"input_size": (3, side, side)}
    stored |= {key: images[f"image_{key}"] for key in ("mean", "std") if f"image_{key}" in images}
    if images.get("resample") == _BICUBIC:
        stored["interpolation"] = "bicubic"
    return {**config, "pretrained_cfg": stored}


def _side(size: object) -> int | None:
    """Return the side of an image from a number, a pair, or a mapping of transformers."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if isinstance(size, list) and size:
        size = size[0]
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_CONFIG:
        raise InputError("is too large for a configuration", path=path, fix="download it again")
    return read_json(path, what="a configuration", fix="download the file again")


def _entry_of(model: str) -> PathologyEncoder | None:
    entry = find_entry(model)
    if entry is None and not timm.is_model(model.removeprefix(TIMM_PREFIX)):
        raise unknown_encoder(model, _models(), "--encoder-model")
    return entry


def _plain_name(model: str | None, entry: PathologyEncoder | None) -> str:
    return entry.name if entry else (model or "").removeprefix(TIMM_PREFIX)


def _weights_file(path: Path, model: str | None) -> EncoderSource:
    if model is None:
        raise InputError(
            "holds weights, but nothing says of which model",
            path=path,
            fix="name it by --encoder-model, such as uni2-h or a model of timm",
        )
    return EncoderSource(model.removeprefix(TIMM_PREFIX), _entry_of(model), file=path)


def _weights_in(folder: Path, own: str | None) -> Path:
    names = (own,) if own else _WEIGHTS
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"holds no file of weights ({', '.join(names)})",
        path=folder,
        fix="give a folder with the files of the repository, or the file with --encoder-model",
    )


def _models() -> set[str]:
    return {*ENCODERS, *timm.list_models()}
