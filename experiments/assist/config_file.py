"""Write the config of a verb as YAML with a comment above each key."""

from __future__ import annotations

from tcgn_mil.config import commented_yaml
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.survive.config import SurviveConfig

# Config class of each verb that takes --config.
CONFIG_OF_VERB: dict[str, type] = {
    "pretrain": SpotConfig,
    "spot-cv": SpotConfig,
    "finetune": FinetuneConfig,
    "slide-cv": SlideCvConfig,
    "associate": AssociationConfig,
    "survive": SurviveConfig,
}


def config_text(verb: str) -> str:
    """Return the config of a verb with all keys, their defaults, and what they mean.

    Raises
    ------
    InputError
        If the verb takes no config file.

    Examples
    --------
    >>> config_text("survive").splitlines()[0][:30]
    '# Config of tcgn-mil survive. '
    """
    if verb not in CONFIG_OF_VERB:
        raise InputError(
            f"{verb} takes no config file", fix=f"choose one of {', '.join(CONFIG_OF_VERB)}"
        )
    title = (
        f"Config of tcgn-mil {verb}. Every key is shown with its default. Options of the command"
        f" line win over this file, which is given as: tcgn-mil {verb} --config FILE."
    )
    return commented_yaml(CONFIG_OF_VERB[verb], title=title)
