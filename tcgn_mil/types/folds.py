"""The data types that flow between stages, and their validation.

Letters for shapes: N tiles, S spots, G genes, M patients, D features. Coordinates are level-0 pixels, x then y.
Imports numpy alone, so that every layer of the package can use it; AnnData comes in lazily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Fold:
    """One split by id (patient, section or spot); no id is in two parts.

    Attributes
    ----------
    index
        Number of the fold.
    train, val, test
        Ids; validation may share patients with training only where PROTOCOL says so, test never does.
    """

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if not part:
                raise InputError(
                    f"fold {self.index} has an empty {name} part",
                    fix="use fewer folds or more patients",
                )
        shared = duplicates([*self.train, *self.val, *self.test])
        if shared:
            raise InputError(
                f"fold {self.index} holds {preview(shared)} more than once", fix="list each id once"
            )

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Part name -> ids, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def check_groups(self, group_of: Mapping[str, str]) -> None:
        """Raise InputError if a test id shares its group (patient) with training or validation."""
        held_out = {group_of[name] for name in self.test}
        leaked = sorted(held_out & {group_of[name] for name in (*self.train, *self.val)})
        if leaked:
            raise InputError(
                f"fold {self.index} tests on {preview(leaked)}, also used in training or validation",
                fix="keep all sections, slides and spots of a patient in one part",
            )
