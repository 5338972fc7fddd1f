"""Registry of pathology encoders: how each is built, fed and pooled, and under which licence.

Each encoder is one entry of ``pathology_encoders.yaml``. To add your own, write an entry into a
YAML file of the same form and give the file as ``--encoder``, or call
:func:`register_pathology_encoder`. The facts are from the cards of the models; the numbers of
parameters are those of the models as they are built here.

This module imports no torch, so that tiles can be cut for an encoder without it.
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from tcgn_mil.config import config_class, config_from_values, read_yaml
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.registry import add_entry
from tcgn_mil.types.tile_geometry import PatchSize

_MPP_TOLERANCE, _SIDE_TOLERANCE = 0.05, 1.25

Pooling = Literal["cls", "mean", "cls+mean"]
Scalar = bool | int | float | str
Colour = tuple[float, float, float]

_FILE = Path(__file__).with_name("pathology_encoders.yaml")
# Colours by which ImageNet models normalise; no encoder's entry needs to name them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@config_class
class PathologyEncoder:
    """An encoder of the registry."""

    name: str = Field(description="Name for --encoder.")
    hub: str = Field(description="Repository on the hub, as owner/name.")
    architecture: str = Field(
        description="Model of timm, or with library=transformers a model class of transformers."
    )
    width: int = Field(ge=1, description="Number of features.")
    licence: str = Field(description="Licence of the weights.")
    citation: str = Field(description="Publication to cite.")
    arguments: dict[str, Scalar] = Field(
        default_factory=dict,
        description="Arguments of the architecture. A class is given by its name: SwiGLUPacked,"
        " SwiGLU, SiLU or GELU.",
    )
    library: Literal["timm", "transformers"] = Field(
        "timm", description="Package that builds the model."
    )
    pooling: Pooling = Field(
        "cls",
        description="Features of a tile: the class token, the mean of the tokens after class and"
        " register tokens, or both, one after the other.",
    )
    gated: bool = Field(False, description="Access has to be asked for on the page of the model.")
    parameters: int | None = Field(
        None, ge=1, description="Number of parameters, against which the built model is tested."
    )
    tile_px: int = Field(
        224, ge=8, description="Side of a tile, in pixels of mpp, that the encoder was trained on."
    )
    mpp: float = Field(0.5, gt=0, description="µm per pixel that the encoder was trained on.")
    input_px: int = Field(
        224,
        ge=8,
        description="Side of the network's input. If it is smaller than tile_px, the centre of the"
        " tile is read.",
    )
    mean: Colour | None = Field(
        _MEAN,
        description="Mean of red, green and blue in [0, 1]. null takes mean and std from the"
        " configuration that is stored with the weights.",
    )
    std: Colour | None = Field(_STD, description="Standard deviation of red, green and blue.")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="Interpolation if tiles are resized."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Precision on a GPU that the card of the model uses."
    )
    weights: str | None = Field(
        None, description="File of the weights in the repository, if it is not model.safetensors."
    )
    aliases: tuple[str, ...] = Field(
        (), description="Names of this encoder, with this pooling, in files of other tools."
    )

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None) or (self.std and min(self.std) <= 0):
            raise InputError(
                f"encoder {self.name} has mean {self.mean} and std {self.std}",
                fix="give three means and three positive deviations, or null for both",
            )
        if self.input_px > self.tile_px:
            raise InputError(
                f"encoder {self.name} reads {self.input_px} px of tiles of {self.tile_px} px",
                fix="give an input_px that is at most tile_px",
            )

    @property
    def patch(self) -> PatchSize:
        """Physical size of the tiles that the encoder was trained on."""
        return PatchSize(self.tile_px, self.mpp)

    @property
    def access(self) -> str:
        """Licence, and whether access has to be asked for."""
        return f"licence {self.licence}, gated" if self.gated else f"licence {self.licence}"

    @property
    def token_width(self) -> int:
        """Width of one token: half of the features if they are class token and mean."""
        return self.width // 2 if self.pooling == "cls+mean" else self.width


def check_encoder_tiles(name: str, expected: PatchSize, given: PatchSize, *, fix: str) -> None:
    """Check that tiles have about the size that an encoder of the registry was trained on.

    Parameters
    ----------
    name
        Name of the encoder, for the message.
    expected, given
        Size of its tiles, and of those at hand. The µm per pixel may differ by 5 %, and the side by
        a factor of 1.25: groups feed 256 px to encoders of 224 px, but not 512 px.
    fix
        What the user can do.

    Raises
    ------
    InputError
        If the sizes differ more.

    Examples
    --------
    >>> check_encoder_tiles("uni2-h", PatchSize(224, 0.5), PatchSize(256, 0.5), fix="")
    """
    same_mpp = math.isclose(given.mpp, expected.mpp, rel_tol=_MPP_TOLERANCE)
    if not (same_mpp and 1 / _SIDE_TOLERANCE <= given.px / expected.px <= _SIDE_TOLERANCE):
        raise InputError(
            f"{name} was trained on tiles of {expected}, these are {given}",
            fix=fix,
        )


@reads("entries of encoders", fix="correct the file")
def read_encoder_entries(path: str | Path) -> dict[str, PathologyEncoder]:
    """Read entries of encoders from a YAML file: a mapping from names to keys.

    Raises
    ------
    InputError
        If the file cannot be read, a key is unknown or missing, or a value is wrong.

    Examples
    --------
    >>> keys = "hub: a/b, architecture: vit_small_patch16_224, width: 384, licence: MIT"
    >>> _ = Path("ours.yaml").write_text(f"ours: {{{keys}, citation: not published}}")
    >>> read_encoder_entries("ours.yaml")["ours"].patch
    PatchSize(px=224, mpp=0.5)
    """
    if not Path(path).is_file():
        raise InputError("no such file", path=path, fix="check the path of the encoder's entry")
    values = read_yaml(path)
    if not values:
        raise InputError(
            "holds no encoder",
            path=path,
            fix="write an entry, as in tcgn_mil/pathology_encoders.yaml",
        )
    entries = {}
    for name, keys in values.items():
        if not isinstance(keys, dict):
            raise InputError(
                f"the entry of {name} is no mapping of keys to values",
                path=path,
                fix="write its keys below the name, indented, such as '  width: 1024'",
            )
        source = f"{path}, encoder {name}"
        entries[str(name)] = config_from_values(
            PathologyEncoder, {"name": str(name), **keys}, source=source
        )
    return entries


PATHOLOGY_ENCODERS: dict[str, PathologyEncoder] = read_encoder_entries(_FILE)


def register_pathology_encoder(entry: PathologyEncoder) -> None:
    """Add an encoder to the registry; a name that is taken raises InputError."""
    add_entry(PATHOLOGY_ENCODERS, entry.name, entry, what="pathology encoder")


def find_entry(name: str) -> PathologyEncoder | None:
    """Return the entry of a name, of a repository on the hub, or of a YAML file with one entry.

    Returns
    -------
    PathologyEncoder or None
        None if `name` is nothing of the kind.

    Examples
    --------
    >>> find_entry("hf-hub:MahmoodLab/UNI2-h").name
    'uni2-h'
    """
    if Path(name).suffix in (".yaml", ".yml"):
        entries = read_encoder_entries(name)
        if len(entries) != 1:
            raise InputError(
                f"holds {len(entries)} encoders, but --encoder takes one",
                path=name,
                fix="write each encoder into a file of its own",
            )
        return next(iter(entries.values()))
    if name in PATHOLOGY_ENCODERS:
        return PATHOLOGY_ENCODERS[name]
    repo = name.removeprefix("hf-hub:").partition("@")[0].lower()
    same = [entry for entry in PATHOLOGY_ENCODERS.values() if entry.hub.lower() == repo]
    return same[0] if same else None


def close_names(name: str) -> list[str]:
    """Return names of the registry that are like `name`, the closest first.

    Examples
    --------
    >>> close_names("uni2h")
    ['uni2-h', 'uni']
    """
    return difflib.get_close_matches(name.lower(), PATHOLOGY_ENCODERS, n=3, cutoff=0.6)


class ForeignEncoder(NamedTuple):
    """An encoder that another tool names: its entry, and the pooling of the features."""

    entry: PathologyEncoder
    pooling: Pooling

    @property
    def identity(self) -> str:
        """Name with pooling, as it stands in the identity of features."""
        return pooled_name(self.entry.name, self.pooling)


def pooled_name(name: str, pooling: str | None) -> str:
    """Return the name of an encoder with its pooling, which belongs to its identity.

    Examples
    --------
    >>> pooled_name("virchow2", "cls+mean")
    'virchow2[cls+mean]'
    """
    return f"{name}[{pooling}]" if pooling else name


def match_foreign(name: str, width: int) -> ForeignEncoder | None:
    """Return the encoder that other tools (TRIDENT, STAMP, CLAM) call `name`.

    Two tools may pool the tokens of one encoder differently: features of virchow2 have 2560 columns
    in TRIDENT and 1280 in STAMP. The width therefore tells the pooling.

    Parameters
    ----------
    name
        Name in the other tool's file.
    width
        Number of features.

    Returns
    -------
    ForeignEncoder or None
        None if no entry has this name. The caller keeps the name as it is.

    Raises
    ------
    InputError
        If the entry has no features of this width.

    Examples
    --------
    >>> match_foreign("virchow2", 1280).identity
    'virchow2[cls]'
    """
    key = name.lower()
    for entry in PATHOLOGY_ENCODERS.values():
        if key not in (entry.name, *entry.aliases):
            continue
        if width == entry.width:
            return ForeignEncoder(entry, entry.pooling)
        if entry.library == "timm" or entry.pooling == "cls+mean":
            if width == entry.token_width:
                return ForeignEncoder(entry, "cls")
            if width == 2 * entry.token_width:
                return ForeignEncoder(entry, "cls+mean")
        raise InputError(
            f"features of {name} have {width} columns, but those of {entry.name} have"
            f" {entry.width}",
            fix="check the encoder's name, or give another name with --encoder",
        )
    return None
