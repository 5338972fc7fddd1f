"""Answer one request of the backbone benchmark: time, memory, precision or operations.

``python -m tcgn_mil.experiments.benchmarks.backbone_measures REQUEST`` answers with JSON. REQUEST
is a JSON object that ``ask`` in backbone.py makes.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tcgn_mil.models import fold_for_inference
from tcgn_mil.models.tcgn import TCGN

GENES = 785
WARM_UPS, REPEATS = 4, 7


def build(name: str, form: str, dtype: str, device: str) -> Any:
    """Return a network in evaluation mode.

    `form` is plain, channels_last, checkpointed, folded (for inference in `dtype`), or published:
    then `name` is MODULE:FUNCTION, a function without arguments that returns the network.
    """
    torch.manual_seed(0)
    if form == "published":
        module, _, function = name.partition(":")
        return getattr(importlib.import_module(module), function)().to(device).eval()
    model = timm.create_model(name, num_classes=GENES).to(device).eval()
    if form == "channels_last":
        return model.to(memory_format=torch.channels_last)
    if form == "plain":
        return model
    assert isinstance(model, TCGN)  # only this network is folded and checkpointed here
    if form == "folded":
        return fold_for_inference(model, getattr(torch, dtype))
    model.set_grad_checkpointing()
    return model


def precision(form: str, dtype: str, device: str) -> Any:
    """Return the autocast context; a folded network has its dtype already and needs none."""
    return (
        nullcontext()
        if form == "folded" or dtype == "float32"
        else torch.autocast(device, getattr(torch, dtype))
    )


def images(batch: int, form: str, device: str) -> Any:
    """Return random images, the same in every process."""
    pixels = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)
    return (
        pixels.contiguous(memory_format=torch.channels_last) if form == "channels_last" else pixels
    )


def forward_call(name: str, form: str, dtype: str, batch: int, device: str) -> Callable[[], Any]:
    """Return a function that makes one forward pass."""
    model, x = build(name, form, dtype, device), images(batch, form, device)

    def call() -> Any:
        with torch.inference_mode(), precision(form, dtype, device):
            return model(x)

    return call


class TrainStep:
    """One training step: forward pass, backward pass and AdamW, as in tcgn_mil.training."""

    def __init__(self, name: str, form: str, dtype: str, batch: int, device: str) -> None:
        self.model, self.x = build(name, form, dtype, device).train(), images(batch, form, device)
        self.target = torch.randn(batch, GENES, generator=torch.Generator().manual_seed(2)).to(
            device
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.form, self.dtype, self.device = form, dtype, device

    def __call__(self) -> None:
        """Make the step."""
        self.optimizer.zero_grad()
        with precision(self.form, self.dtype, self.device):
            loss = torch.nn.functional.mse_loss(self.model(self.x).float(), self.target)
        loss.backward()
        self.optimizer.step()

    def kept_bytes(self) -> int:
        """Return the bytes of parameters and AdamW's moments; gradients are freed between steps."""
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *moments))


def seconds(call: Callable[[], Any], device: str) -> float:
    """Return the median seconds of a call, after the warm-up calls."""
    times = []
    for _ in range(WARM_UPS + REPEATS):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UPS:])


def peak_memory(step: TrainStep, resident_before_mb: float) -> dict[str, float]:
    """Return the MB at the peak of a training step.

    ``tensors_mb`` counts the tensors that are alive, ``resident_mb`` what the process holds above
    `resident_before_mb`.
    """
    for _ in range(WARM_UPS):
        step()
    resident = resident_mb("VmHWM") - resident_before_mb
    kept = step.kept_bytes()
    step.optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    sizes = [
        event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]"
    ]
    return {"tensors_mb": (max(sizes) + kept) / 2**20, "resident_mb": resident}


def resident_mb(key: str) -> float:
    """Return VmRSS (memory now) or VmHWM (its peak) of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def machine(device: str) -> dict[str, Any]:
    """Return the GFLOP/s of a square matrix product in float32 and bfloat16, and the machine."""
    rates: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
    }
    for dtype in (torch.float32, torch.bfloat16):
        side = 2048 if device == "cpu" else 8192
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        taken = seconds(partial(torch.matmul, matrix, matrix), device)
        rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / taken / 1e9
    return rates


def gflop(name: str) -> float:
    """Return the GFLOP of the forward pass of one image; a multiply-add counts as two."""
    model, counter = build(name, "plain", "float32", "cpu"), FlopCounterMode(display=False)
    # Not every version of torch counts the fused attention of a CPU; all count plain products.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(images(1, "plain", "cpu"))
    return counter.get_total_flops() / 1e9


def with_norms(model: Any) -> Any:
    """Give batch normalisations the statistics and affine terms that training would give.

    With fresh ones, folding would be an identity and its error would not be measured.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.momentum = 1.0
        model.train()(
            torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(3)).to(
                model.head.fc1.weight
            )
        )
    return model.eval()


def error(form: str, dtype: str, device: str) -> float:
    """Return the largest relative error, over eight images, against the plain network in float32.

    The error is the l2 distance of the predictions, divided by the norm of those in float32.
    """
    model = with_norms(build("tcgn_ti", "plain", "float32", device))
    other = fold_for_inference(model, getattr(torch, dtype)) if form == "folded" else model
    x = images(8, "plain", device)
    with torch.inference_mode():
        expected = model(x)
        with precision(form, dtype, device):
            predicted = other(x).float()
    return float(((predicted - expected).norm(dim=1) / expected.norm(dim=1)).max())


def bounds(device: str, call: Callable[[], Any]) -> list[str]:
    """Return the six operations that take most of a call, with their share of its time."""
    for _ in range(WARM_UPS):
        call()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=kinds) as recorded:
        call()
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    return [
        f"{event.key} {getattr(event, key) / total:.0%} in {event.count} calls"
        for event in events[:6]
    ]


def measure(request: dict[str, Any]) -> Any:
    """Answer a request, which has a kind, arguments, a device and a number of threads."""
    kind, arguments, device = request["kind"], request["arguments"], request["device"]
    torch.set_num_threads(request["threads"])
    if kind == "machine":
        return machine(device)
    if kind == "gflop":
        (name,) = arguments
        return gflop(name)
    if kind == "error":
        form, dtype = arguments
        return error(form, dtype, device)
    if kind in ("forward", "profile"):
        name, form, dtype, batch = arguments
        call = forward_call(name, form, dtype, batch, device)
        return seconds(call, device) if kind == "forward" else bounds(device, call)
    if kind in ("train", "memory"):
        name, form, dtype, batch = arguments
        before = resident_mb("VmRSS")
        step = TrainStep(name, form, dtype, batch, device)
        return seconds(step, device) if kind == "train" else peak_memory(step, before)
    raise ValueError(f"no measurement {kind}")


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
