"""Images are processed a few at a time, and freed memory is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tcgn_mil.layers.cpu import memory as cache
from tcgn_mil.layers.cpu.memory import FreedMemory, in_cache

COUNT_FAULTS = """
import resource, torch
from tcgn_mil.models import TCGN
model = TCGN().eval()
images = torch.zeros(8, 3, 224, 224)
with torch.inference_mode():
    for _ in range(3):
        model(images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(2):
        model(images)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 2)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone has these thresholds"
)
def test_a_forward_pass_does_not_fetch_its_memory_anew() -> None:
    """There are hardly any page faults of 4 KB; without `keep_freed_memory`, 7,000 to 90,000."""
    found = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 2_000


def test_parts_fit_the_cache_and_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FLOATS", 100)
    seen = []

    def double(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return 2 * part

    images = torch.arange(14.0).reshape(7, 2)
    with torch.no_grad():
        assert torch.equal(in_cache(double, images, 30), 2 * images)
    assert seen == [3, 3, 1]


def test_with_gradients_all_images_go_at_once() -> None:
    seen = []
    in_cache(lambda part: seen.append(len(part)) or part, torch.zeros(7, 2), 2**30)
    assert seen == [7]


def test_freed_memory_is_given_back_when_a_tenth_more_is_resident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_STATM", tmp_path / "statm")
    given_back = []
    monkeypatch.setattr(cache, "_malloc_trim", lambda: given_back.append)
    memory = FreedMemory()
    page = os.sysconf("SC_PAGE_SIZE")

    def after(mib: int) -> bool:
        (tmp_path / "statm").write_text(f"9999999 {mib * 2**20 // page} 1 1 0 1 0\n")
        return memory.bound()

    assert [after(mib) for mib in (100, 109, 111)] == [False, False, True]
    # A slide of larger batches leaves more, which is usual from now on.
    assert [after(mib) for mib in (130, 142, 144, 100)] == [False, False, True, False]
    assert len(given_back) == 2


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators have no malloc_trim"
)
def test_blocks_between_others_are_given_back() -> None:
    """Without it, the half of the blocks that is freed stays with the process."""
    script = (
        "from tcgn_mil.layers.cpu import memory as m;"
        "resident = lambda: int(m._STATM.read_text().split()[1]) * 4096 >> 20;"
        "memory = m.FreedMemory(); assert not memory.bound();"
        "blocks = [b'x' * 100_000 for _ in range(3000)]; full = resident(); del blocks[::2];"
        "freed = resident(); assert memory.bound(); print(full - freed, freed - resident())"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, after = map(int, said.stdout.split())
    assert before < 20 < 100 < after
