"""One fold of a cross-validation: the names in its training, validation and test parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview


@dataclass(frozen=True)
class Fold:
    """One split of patients, sections or spots into three parts.

    Parameters
    ----------
    index
        Number of the fold.
    train, val, test
        Names in each part. Each part has at least one name, and no name is in two parts.
        Validation sections may come from training patients if the protocol says so
        (docs/protocol.md, section Splits); test sections never do.

    needs_val
        Whether an empty validation part is an error. It is none for survival models, whose penalty
        is chosen by folds within the training part.

    Raises
    ------
    InputError
        If a part is empty or a name occurs more than once.
    """

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    needs_val: bool = field(default=True, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if not part and (self.needs_val or name != "val"):
                raise InputError(
                    f"fold {self.index} has an empty {name} part",
                    fix="use fewer folds or more patients",
                )
        shared = {
            f"{first} and {second}": sorted({*self.parts()[first]} & {*self.parts()[second]})
            for first, second in (("train", "test"), ("val", "test"), ("train", "val"))
        }
        for both, names in shared.items():
            if names:
                raise InputError(
                    f"fold {self.index} has {preview(names)} in both {both}, so that information"
                    " leaks from one part into the other",
                    fix="put each id into one part of a fold",
                )
        repeated = duplicates([*self.train, *self.val, *self.test])
        if repeated:
            raise InputError(
                f"fold {self.index} holds {preview(repeated)} more than once",
                fix="list each id once",
            )

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each part, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def check_groups(self, group_of: Mapping[str, str]) -> None:
        """Check that no group of the test part is also used in training or validation.

        Parameters
        ----------
        group_of
            Group (patient, or tissue source site) of each name.

        Raises
        ------
        InputError
            If a group is in the test part and in another part.
        """
        tested = {group_of[name] for name in self.test}
        leaked = sorted(tested & {group_of[name] for name in (*self.train, *self.val)})
        if leaked:
            raise InputError(
                f"fold {self.index} tests on {preview(leaked)}, also used in training or"
                " validation",
                fix="keep all sections, slides and spots of a patient in one part",
            )
