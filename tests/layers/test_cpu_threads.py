"""On a CPU the images of a batch are shared among threads, and one thread convolves by oneDNN."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tcgn_mil.layers.cpu.onednn import conv2d
from tcgn_mil.layers.cpu.threads import in_threads


@pytest.fixture
def two_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def recorded(images: Tensor, calls: list[tuple[int, int, int]]) -> Tensor:
    calls.append((len(images), torch.get_num_threads(), threading.get_ident()))
    assert not torch.is_grad_enabled()
    return images * 2


@pytest.mark.usefixtures("two_cores")
def test_each_core_has_images_of_its_own() -> None:
    images, calls = torch.arange(10.0).view(5, 2), []
    with torch.inference_mode():
        found = in_threads(lambda part: recorded(part, calls), images)
    torch.testing.assert_close(found, images * 2)
    assert sorted((size, cores) for size, cores, _ in calls) == [(2, 1), (3, 1)]
    assert threading.get_ident() not in {ident for *_, ident in calls}
    assert torch.get_num_threads() == 2  # the threads' own number does not reach this one
    assert found.is_inference()


@pytest.mark.usefixtures("two_cores")
def test_an_error_in_a_thread_is_raised() -> None:
    def fail(part: Tensor) -> Tensor:
        raise ValueError("no image")

    with torch.no_grad(), pytest.raises(ValueError, match="no image"):
        in_threads(fail, torch.zeros(4, 1))


@pytest.mark.parametrize("case", ["gradients", "autocast", "one image", "one core"])
def test_a_whole_batch_is_given_where_it_must_be(case: str, two_cores: None) -> None:
    sizes: list[int] = []

    def record(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return part

    images = torch.zeros(1 if case == "one image" else 4, 1)
    torch.set_num_threads(1 if case == "one core" else 2)
    with (
        torch.set_grad_enabled(case == "gradients"),
        torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"),
    ):
        in_threads(record, images)
    assert sizes == [len(images)]


@pytest.mark.parametrize("groups", [1, 8])
def test_one_thread_convolves_by_onednn(groups: int, two_cores: None) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(16, 8 // groups, 3, 3), torch.randn(16)
    expected = torch.nn.functional.conv2d(maps, weight, bias, (2, 2), (1, 1), groups=groups)
    torch.set_num_threads(1)
    with torch.inference_mode(), torch.profiler.profile() as recorded_calls:
        found = conv2d(maps, weight, bias, stride=(2, 2), padding=(1, 1), groups=groups)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    names = {event.key for event in recorded_calls.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv" in name for name in names)
