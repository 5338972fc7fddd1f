"""Write the commented config files in ``experiments/configs`` from the config classes.

Run ``python -m tcgn_mil.experiments.shipped_configs`` after a change to a config class. A test
compares the files with what this module makes.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.config import commented_yaml
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.io.atomic import write_text

FOLDER = Path(__file__).parent / "configs"
_DEFAULTS = "Every key is shown with its default. Options of the command line win over this file."
CONFIGS: dict[str, tuple[type, str]] = {
    "associate": (AssociationConfig, f"Config of tcgn-mil associate. {_DEFAULTS}"),
    "finetune": (
        FinetuneConfig,
        f"Config of tcgn-mil finetune and tcgn-mil slide-cv. {_DEFAULTS} slide-cv has the same"
        " defaults except for refits, which is 50.",
    ),
    "spots": (
        SpotConfig,
        f"Config of tcgn-mil pretrain and tcgn-mil spot-cv. {_DEFAULTS} The file spots_recipe.yaml"
        " beside this one holds the settings that did best on real sections.",
    ),
    "survive": (SurviveConfig, f"Config of tcgn-mil survive. {_DEFAULTS}"),
}


def shipped_configs() -> dict[str, str]:
    """Return the text of each generated file by its name."""
    return {
        f"{name}.yaml": commented_yaml(config_class, title=title)
        for name, (config_class, title) in CONFIGS.items()
    }


def main() -> None:
    """Write all generated files."""
    for name, text in shipped_configs().items():
        write_text(FOLDER / name, text)


if __name__ == "__main__":
    main()
