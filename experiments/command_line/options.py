"""Options of the command line: those that several verbs share, and those that a config declares.

A verb's option that sets a config key takes its help text, its bounds and its default from the
config class (:func:`config_option`), so that each key is described once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.config import default_of, describe_key
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.yaml_text import parse_yaml
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.types.tile_geometry import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX


def config_option(config_class: type, key: str, *names: str, **settings: Any) -> Any:
    """Declare an option that sets a key of a config.

    Parameters
    ----------
    config_class
        Class made by :func:`tcgn_mil.config.config_class`.
    key
        Key that the option sets; sections are separated by dots, as in ``training.lr``.
    names
        Names of the option, by default ``--<name of the parameter>``.
    settings
        Further arguments of :func:`typer.Option`.

    Returns
    -------
    typer.models.OptionInfo
        To stand in ``Annotated[... | None, config_option(...)] = None``. The value None means that
        the option was not given, so that a config file or the default of the class decides.
    """
    default, described = default_of(config_class, key), describe_key(config_class, key)
    if isinstance(default, (tuple, list)):
        default = ", ".join(str(value) for value in default)
        described += " Can be repeated."
    if default not in (None, "", True, False):
        # typer would show the default as that of the parameter, which is None.
        described += f" Default: {default}."
    return typer.Option(*names, help=described, show_default=False, **settings)


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder to write. A run that was stopped continues in its folder.",
        file_okay=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file that sets config keys.", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Set one config key, as --set key=value or --set section.key=value; --show-config"
        " lists the keys. Can be repeated.",
        show_default=False,
    ),
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Print the resolved config and stop.")
]
PatchPx = Annotated[
    int,
    typer.Option(
        "--patch-px",
        help="Side of a patch or tile in stored pixels. The default is that of the published TCGN;"
        " the recipe that did best on real sections (configs/spots_recipe.yaml) has 224, which is"
        " 155 µm.",
    ),
]
PatchMpp = Annotated[
    float,
    typer.Option(
        "--patch-mpp", help="µm per stored pixel; the field of view is patch-px times patch-mpp."
    ),
]
EncoderModel = Annotated[str | None, config_option(EncoderOptions, "model", "--encoder-model")]
EncoderPooling = Annotated[str | None, config_option(EncoderOptions, "pooling", "--pooling")]
EncoderArgument = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder-argument",
        help="Argument with which the model of --encoder is built, as key=value. Can be repeated.",
        show_default=False,
    ),
]
Pretrained = Annotated[bool, config_option(EncoderOptions, "pretrained", "--pretrained")]
Untrained = Annotated[bool, config_option(EncoderOptions, "untrained", "--untrained")]
OwnPatchPx = Annotated[
    int | None,
    typer.Option(
        "--patch-px",
        help=f"Side of a tile in stored pixels. Default: {DEFAULT_PATCH_PX}.",
        show_default=False,
    ),
]
OwnPatchMpp = Annotated[
    float | None,
    typer.Option(
        "--patch-mpp",
        help="µm per stored pixel; the field of view is patch-px times patch-mpp. Default:"
        f" {DEFAULT_PATCH_MPP}.",
        show_default=False,
    ),
]
Slides = Annotated[
    Path,
    typer.Argument(
        help="One slide, a folder of slides, or a table with the column path and, if known,"
        " slide_id, patient_id, mpp and site."
    ),
]
SlideMpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="µm per pixel of level 0, for slides that do not state it. A slide that states another"
        " is refused.",
        show_default=False,
    ),
]
OverrideMpp = Annotated[
    bool,
    typer.Option(
        "--override-mpp",
        help="Use --mpp, or the column mpp of the slides table, in spite of the slides' files. Both"
        " values are recorded.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Take the slides in all folders below, too. They are also taken where the folder"
        " itself has none.",
    ),
]

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="NUMBER/COUNT",
        help="Work on one share of the slides, for example 3/30, beside other runs with the same"
        " --out. The share of a slide follows from its name, so that a slide that is added changes"
        " no other share.",
        show_default=False,
    ),
]

DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        help="Several devices, with one process each, instead of --device: numbers of GPUs such as"
        " 0,1, or cpu:2 for two processes of one thread on the CPU. A process takes the next slide"
        " when it is free. The features do not depend on the number of processes.",
        show_default=False,
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="local for this machine, or ray for the machines of a Ray cluster (needs the"
        " extra ray).",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="With --engine ray: address of the cluster, as host:port; auto finds the one that"
        " this machine belongs to.",
        show_default="auto",
    ),
]


def encoder_options(
    model: str | None = None,
    pooling: str | None = None,
    argument: list[str] | None = None,
    pretrained: bool = False,
    untrained: bool = False,
) -> dict[str, Any]:
    """Return what the options of an encoder set, by config key; None where one was not given.

    Raises
    ------
    InputError
        If an argument of the model is not ``key=value``.
    """
    arguments = {}
    for text in argument or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InputError(
                f"--encoder-argument {text!r} is not key=value",
                fix="write for example --encoder-argument img_size=224",
            )
        try:
            arguments[key.strip()] = parse_yaml(value)
        except ValueError as error:
            raise InputError(
                f"--encoder-argument {key}: {value!r} is not a YAML value", fix="quote the value"
            ) from error
    return {
        "encoder_options.model": model,
        "encoder_options.pooling": pooling,
        "encoder_options.arguments": arguments or None,
        "encoder_options.pretrained": pretrained or None,
        "encoder_options.untrained": untrained or None,
    }
