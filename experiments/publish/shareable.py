"""Remove from the description of a run what is nobody else's business: paths and names.

A path tells of the machine and of its users; only its last part is kept. Names of patients and of
sections are replaced as :mod:`tcgn_mil.inference.training_names` describes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Values such as timm:resnet18 and hf-hub:owner/name are names, whatever slashes they have.
_NAMED = re.compile(r"(timm|hf-hub):")
_LOCAL = re.compile(r"(?P<prefix>[a-z-]+:)?(?P<path>.*[/\\].*)", re.DOTALL)
# Keys whose values name sections, in configs of pretrain and in headers of encoders.
_OF_SECTIONS = ("trained_on", "validated_on", "val_sections", "test_sections")


def shareable(value: Any, names: Mapping[str, str], *, in_config: bool = False) -> Any:
    """Return a value of a JSON file without folders and with other names.

    Parameters
    ----------
    value
        A dictionary, list, text or number.
    names
        New name of each patient and section; a name that is not in it stays.
    in_config
        Whether the value is of a config, whose texts may be paths.

    Examples
    --------
    >>> shareable({"config": {"cohort": "/home/me/cohort.h5ad"}, "unit": "a/b"}, {})
    {'config': {'cohort': 'cohort.h5ad'}, 'unit': 'a/b'}
    >>> shareable({"trained_on": ["S1"], "encoder": "hf-hub:owner/uni"}, {"S1": "section-1"})
    {'trained_on': ['section-1'], 'encoder': 'hf-hub:owner/uni'}
    """
    if isinstance(value, Mapping):
        return {
            key: [names.get(str(item), item) for item in inner]
            if key in _OF_SECTIONS and isinstance(inner, list)
            else shareable(inner, names, in_config=in_config or key == "config")
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [shareable(item, names, in_config=in_config) for item in value]
    return without_folders(value) if in_config and isinstance(value, str) else value


def without_folders(text: str) -> str:
    """Return the last part of a path; a name of a model, and any other text, stays as it is.

    Examples
    --------
    >>> without_folders("/data/runs/slide-model/"), without_folders("local-dir:/data/uni")
    ('slide-model', 'local-dir:uni')
    >>> without_folders("timm:hf-hub/x"), without_folders("gated")
    ('timm:hf-hub/x', 'gated')
    """
    parts = None if _NAMED.match(text) else _LOCAL.fullmatch(text)
    if parts is None:
        return text
    last = re.split(r"[/\\]", parts["path"].rstrip("/\\"))[-1]
    return f"{parts['prefix'] or ''}{last}"
