"""Shares cover a cohort once, stay as they are when it grows, and lose no row of one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io import failures
from tcgn_mil.io.failures import Failure, read_failures, record_failures, until_settled
from tcgn_mil.types.shards import Shard

NAMES = [f"TCGA-{i:04d}" for i in range(3000)]


def share(number: int, count: int, names: list[str] = NAMES) -> list[str]:
    return [name for name in names if Shard(number, count).holds(name)]


def test_every_slide_is_in_one_share_of_about_the_same_size() -> None:
    shares = [share(number, 30) for number in range(1, 31)]
    assert sorted(name for names in shares for name in names) == NAMES
    sizes = sorted(map(len, shares))
    assert 65 < sizes[0] < sizes[-1] < 140
    assert sizes[3] >= 80
    assert sizes[-4] <= 120


def test_a_slide_that_is_added_moves_no_other() -> None:
    for number in (1, 2, 3):
        grown = share(number, 3, ["AAAA", *NAMES])
        assert [name for name in grown if name != "AAAA"] == share(number, 3)


@pytest.mark.parametrize("text", ["3/2", "0/2", "1", "1/0", "-1/2", "a/b", "1/2/3"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        Shard.parse(text)
    assert Shard.parse("2/3") == Shard(2, 3)


def failure(slide: str) -> Failure:
    return Failure(slide, "tile", "why", "fix")


def slides(folder: Path) -> list[str]:
    return [row.slide for row in read_failures(folder)]


def test_rows_of_all_shares_meet(tmp_path: Path) -> None:
    record_failures(tmp_path, [failure("b")], Shard(1, 3))
    record_failures(tmp_path, [], Shard(2, 3))
    assert record_failures(tmp_path, [failure("a")], Shard(3, 3)) == [failure("a"), failure("b")]
    assert slides(tmp_path) == ["a", "b"]
    record_failures(tmp_path, [], Shard(1, 3))  # the share was run again, and all went well
    assert slides(tmp_path) == ["a"]
    record_failures(tmp_path, [failure("c")], Shard(1, 2))  # another number of shares
    assert slides(tmp_path) == ["c"]
    record_failures(tmp_path, [failure("d")])  # the whole cohort
    assert slides(tmp_path) == ["d"]
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_share_that_ends_while_another_merges_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower run has read the files before the other share ends, and writes after it."""
    write, other = failures.write_failures, [Shard(2, 2)]

    def slow(folder: Path, rows: list[Failure]) -> None:
        if other:
            record_failures(tmp_path, [failure("b")], other.pop())
        write(folder, rows)

    monkeypatch.setattr(failures, "write_failures", slow)
    record_failures(tmp_path, [failure("a")], Shard(1, 2))
    assert slides(tmp_path) == ["a", "b"]


def test_a_page_of_all_shares_is_made_again_if_one_ended_meanwhile(tmp_path: Path) -> None:
    made = []

    def make() -> int:
        made.append(None)
        if len(made) == 1:
            record_failures(tmp_path, [], Shard(2, 2))
        return len(made)

    assert until_settled(tmp_path, Shard(1, 2), make) == 2
    assert until_settled(tmp_path, None, make) == 3
