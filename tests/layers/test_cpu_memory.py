"""Images are processed a few at a time, and freed memory is kept."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tcgn_mil.layers.cpu import memory as cache
from tcgn_mil.layers.cpu.memory import in_cache

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
