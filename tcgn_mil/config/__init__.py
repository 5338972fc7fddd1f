"""Describe a run by a config: class defaults, a YAML file and ``--set section.key=value``.

A config is a frozen dataclass made by :func:`config_class`, whose fields may be configs themselves
(sections). Each key is declared once, with its default, its bounds and its description::

    @config_class
    class Training:
        \"\"\"Settings of the training loop.\"\"\"

        epochs: int = Field(30, ge=1, description="Largest number of passes over the data.")

From this declaration come the check of the value (by pydantic), the help text of the command line
(:func:`describe_key`) and the commented YAML files in ``experiments/configs``
(:func:`commented_yaml`). Unknown keys and wrong values fail with an error that names the key.
"""

from tcgn_mil.config.declare import config_class, declaration, default_of, describe_key
from tcgn_mil.config.resolve import (
    as_plain,
    config_from_values,
    differing_keys,
    read_yaml,
    resolve_config,
    write_config,
)
from tcgn_mil.config.yaml_text import commented_yaml

__all__ = [
    "as_plain",
    "commented_yaml",
    "config_class",
    "config_from_values",
    "declaration",
    "default_of",
    "describe_key",
    "differing_keys",
    "read_yaml",
    "resolve_config",
    "write_config",
]
