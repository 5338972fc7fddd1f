"""Shares of a cohort that are worked on by several runs of the same command, on any machines."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from tcgn_mil.errors import InputError

_FORM = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of a cohort.

    The share of a slide follows from its name alone, by a hash. So a slide that is added while the
    runs are in work changes the share of no other slide. Shares by position would shift, and then a
    slide could be in the share of no run. The price is that the sizes of shares differ by chance,
    as if each slide drew its share: of 3,000 slides in 30 shares most have 80 to 120.

    Attributes
    ----------
    number
        From 1 to `count`.
    count
        Number of shares.

    Examples
    --------
    >>> share = Shard.parse("1/2")
    >>> [name for name in ("a", "b", "c", "d") if share.holds(name)]
    ['a', 'b', 'c']
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read a share from text such as ``3/30``.

        Raises
        ------
        InputError
            If it is not of this form, or there is no such share.
        """
        form = _FORM.fullmatch(text.strip())
        number, count = map(int, form.groups()) if form else (0, 0)
        if not 1 <= number <= count:
            raise InputError(
                f"--shard {text} is not one of several shares",
                fix="write NUMBER/COUNT with a number from 1 to the count, for example --shard 1/2"
                " and --shard 2/2",
            )
        return cls(number, count)

    def holds(self, name: str) -> bool:
        """Return whether a slide is in this share."""
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
