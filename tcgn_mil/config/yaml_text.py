"""Write a config class as YAML with a comment above each key."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from tcgn_mil.config.declare import LINE_WIDTH, describe_key
from tcgn_mil.config.resolve import plain


def commented_yaml(config_class: type, *, title: str) -> str:
    """Write all keys of a config with their defaults, each below a comment that describes it.

    Parameters
    ----------
    config_class
        A class made by :func:`config_class`, all of whose keys have defaults.
    title
        Sentences for the head of the file.

    Returns
    -------
    str
        YAML that :func:`resolve_config` reads as the defaults.
    """
    head = textwrap.wrap(title, LINE_WIDTH - 2)
    return "".join(f"# {line}\n" for line in head) + "\n" + _section_yaml(config_class(), depth=0)


def _section_yaml(config: Any, *, depth: int) -> str:
    import yaml

    indent = "  " * depth
    lines = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        comment = describe_key(type(config), item.name)
        width = LINE_WIDTH - 2 - len(indent)
        lines += [f"{indent}# {line}\n" for line in textwrap.wrap(comment, width)]
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{item.name}:\n{_section_yaml(value, depth=depth + 1)}")
        else:
            # Dumped as the one item of a list, a scalar gets no end-of-document marker.
            dumped = yaml.safe_dump([plain(value)], default_flow_style=True, width=10_000)
            lines.append(f"{indent}{item.name}: {dumped.strip()[1:-1]}\n")
    return "".join(lines)
