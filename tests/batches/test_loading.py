"""Items are made ahead in order, on one core, without changing the cores of other threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tcgn_mil.batches.loading import prefetch


def test_items_keep_their_order_and_errors_come_in_their_turn() -> None:
    with prefetch((10 // (3 - i) for i in range(9)), depth=2) as items:
        assert [next(items), next(items), next(items)] == [3, 5, 10]
        with pytest.raises(ZeroDivisionError):
            next(items)


def test_items_are_made_on_one_core_and_other_threads_keep_theirs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with prefetch(torch.get_num_threads() for _ in range(3)) as items:
            assert list(items) == [1, 1, 1]
            with ThreadPoolExecutor(max_workers=1) as another:
                assert another.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
