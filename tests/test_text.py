"""Hashes of names, repeated names, and short lists for messages."""

from __future__ import annotations

from tcgn_mil.text import content_hash, duplicates, preview


def test_hash_depends_on_order_of_lists_only() -> None:
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert content_hash({"x": 1, "y": 2}) == content_hash({"y": 2, "x": 1})


def test_repeated_names_are_listed_once() -> None:
    assert duplicates("ABCBAA") == ["B", "A"]
    assert duplicates([]) == []


def test_a_preview_counts_the_names_that_it_leaves_out() -> None:
    assert preview(["A", "B"], most=2) == "A, B"
    assert preview(["A", "B", "C"], most=2) == "A, B and 1 more"
