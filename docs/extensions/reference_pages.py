"""Make the pages of the reference from the code: verbs, config keys, encoders and Python API."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

import tcgn_mil
from tcgn_mil.config import as_plain, default_of, describe_key
from tcgn_mil.config.declare import sections_of
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.explain.config import ExplainConfig
from tcgn_mil.experiments.main import make_app
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.slide_level.config import SlideCvConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.pathology import PATHOLOGY_ENCODERS

# Title of the page, config class, and the verbs that read it.
CONFIGS: dict[str, tuple[type, str]] = {
    "spots": (SpotConfig, "`pretrain` and `spot-cv`"),
    "slides": (SlideCvConfig, "`finetune` and `slide-cv` (`finetune` has 0 refits by default)"),
    "predict": (PredictConfig, "`predict`"),
    "explain": (ExplainConfig, "`explain`"),
    "associate": (AssociationConfig, "`associate`"),
    "survive": (SurviveConfig, "`survive`"),
}
# Names that are public beside those of ``import tcgn_mil``.
_MODULES: dict[str, tuple[str, ...]] = {
    "tcgn_mil.models": ("create_model", "load_trunk", "fold_for_inference"),
    "tcgn_mil.interpret": ("grad_cam", "integrated_gradients", "learned_graphs"),
    "tcgn_mil.models.encoders": ("register_encoder", "EncoderInput"),
    "tcgn_mil.models.aggregators": ("register_aggregator", "Aggregator"),
    "tcgn_mil.pathology": ("register_pathology_encoder", "PathologyEncoder"),
    "tcgn_mil.preprocessing.slides.readers": ("register_slide_reader", "SlideReader"),
    "tcgn_mil.experiments.verbs": ("register_verb", "Verb"),
    "tcgn_mil.errors": ("InputError",),
}


def reference_pages() -> dict[str, str]:
    """Return the text of each page by its path in ``docs/generated``."""
    pages = {f"verbs/{name}.md": verb_page(name) for name in verb_names()}
    pages |= {f"config/{name}.md": config_page(name, *CONFIGS[name]) for name in CONFIGS}
    pages["encoders.md"] = encoders_page()
    pages["api.md"] = api_page()
    return pages


def verb_names() -> list[str]:
    """Return the verbs of the command line in the order of its help."""
    return [str(command.name) for command in make_app().registered_commands]


def verb_page(name: str) -> str:
    """Return the page with the help of one verb, as a terminal shows it."""
    return (
        f"# {name}\n\n```{{typer}} tcgn_mil.experiments.main.make_app:{name}\n"
        f":prog: tcgn-mil {name}\n:width: 80\n:preferred: text\n```\n"
    )


def config_page(name: str, config_class: type, verbs: str) -> str:
    """Return the page with all keys of a config, one table for each of its sections."""
    lines = [f"# Config keys of {name}", "", f"Read by {verbs}.", ""]
    first_line = (inspect.getdoc(config_class) or "").split("\n", 1)[0]
    lines += [first_line, ""]
    for prefix, section in _sections(config_class):
        if prefix:
            lines += [f"## {prefix}", "", (inspect.getdoc(section) or "").split("\n", 1)[0], ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        lines += list(_rows(section, prefix))
        lines.append("")
    return "\n".join(lines)


def _sections(config_class: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the config and its sections, with the dotted name of each."""
    yield prefix, config_class
    for name, section in sections_of(config_class).items():
        yield from _sections(section, f"{prefix}.{name}" if prefix else name)


def _rows(section: type, prefix: str) -> Iterator[str]:
    inner = sections_of(section)
    for item in dataclasses.fields(section):
        if item.name in inner:
            continue
        key = f"{prefix}.{item.name}" if prefix else item.name
        meaning = describe_key(section, item.name)
        yield f"| `{key}` | {_shown(default_of(section, item.name))} | {_cell(meaning)} |"


def _shown(value: object) -> str:
    """Return a default as it is typed in YAML."""
    if value is None:
        return ""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = as_plain(value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (tuple, list)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else ""


def _cell(text: str) -> str:
    """Return text that may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def encoders_page() -> str:
    """Return the table of the registry of pathology encoders."""
    lines = [
        "# Pathology encoders",
        "",
        f"The registry has {len(PATHOLOGY_ENCODERS)} encoders. The table is made from",
        "`tcgn_mil/pathology_encoders.yaml`; `tcgn-mil encoders` prints the same and says whether",
        "the weights are on this machine. The licence is that of the weights, and each has to be",
        "cited. *Gated* weights need an account on the hub and the consent of their authors.",
        "",
        "| name, repository | features | tile | pooling | parameters | licence | citation |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in PATHOLOGY_ENCODERS.items():
        size = "" if entry.parameters is None else f"{entry.parameters / 1e6:.0f} M"
        tile = f"{entry.tile_px * entry.mpp:g}&nbsp;µm, {entry.tile_px}&nbsp;px"
        lines.append(
            f"| [{name}](https://huggingface.co/{entry.hub}) | {entry.width} |"
            f" {tile} | {entry.pooling} | {size} |"
            f" {entry.licence}{', gated' if entry.gated else ''} | {entry.citation} |"
        )
    return "\n".join(lines) + "\n"


def api_page() -> str:
    """Return the index of the Python API, whose pages autosummary makes."""
    lines = [
        "# Python API",
        "",
        "`import tcgn_mil` offers what a notebook needs. Each name is loaded when it is first",
        "used, so that the import is quick and loads no torch.",
        "",
        *_autosummary(f"tcgn_mil.{name}" for name in sorted(tcgn_mil._PUBLIC)),
        "## Networks, explanations and registries",
        "",
        "These names are public as well. A registry takes an addition from outside the package;",
        "the [recipes](contributing.md#recipes) show each of them.",
        "",
        *_autosummary(f"{module}.{name}" for module, names in _MODULES.items() for name in names),
    ]
    return "\n".join(lines)


def _autosummary(names: Iterator[str]) -> list[str]:
    listed = [f"   {name}" for name in names]
    return ["```{eval-rst}", ".. autosummary::", "   :toctree: api", "", *listed, "```", ""]
