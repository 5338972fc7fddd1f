"""Speed, memory and precision of the backbone beside timm's resnet50, in one run.

    python -m tcgn_mil.experiments.benchmarks.backbone --out backbone.json

Each measurement runs in a process of its own, which warms up until its memory is in steady state (first steps pay for
page faults), and networks take turns over several rounds; the table gives medians and their ratio to resnet50 in
float32. Cores should be idle. What moved what is in experiments/results/backbone_speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

YARDSTICK = "resnet50 float32"
GENES = 785
WARM_UPS, REPEATS = 3, 5
FORWARD = {
    YARDSTICK: ("resnet50", "plain", "float32"),
    "resnet50 float32, channels-last": ("resnet50", "channels_last", "float32"),
    "resnet50 bfloat16 autocast, channels-last": ("resnet50", "channels_last", "bfloat16"),
    "tcgn_ti float32": ("tcgn_ti", "plain", "float32"),
    "tcgn_ti float32, folded": ("tcgn_ti", "folded", "float32"),
    "tcgn_ti bfloat16 autocast": ("tcgn_ti", "plain", "bfloat16"),
    "tcgn_ti bfloat16, folded": ("tcgn_ti", "folded", "bfloat16"),
    "tcgn_tiny float32, folded": ("tcgn_tiny", "folded", "float32"),
}
TRAIN = {
    YARDSTICK: ("resnet50", "plain", "float32"),
    "tcgn_ti float32": ("tcgn_ti", "plain", "float32"),
    "tcgn_ti float32, checkpointed": ("tcgn_ti", "checkpointed", "float32"),
    "tcgn_ti bfloat16 autocast": ("tcgn_ti", "plain", "bfloat16"),
}


def build(name: str, form: str, dtype: str, device: str) -> Any:
    """A network in eval mode and one of the forms of `FORWARD` and `TRAIN`."""
    import timm
    import torch

    from tcgn_mil.models import fold_for_inference

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=GENES).to(device).eval()
    if form == "channels_last":
        return model.to(memory_format=torch.channels_last)
    if form == "folded":
        return fold_for_inference(model, getattr(torch, dtype))
    if form == "checkpointed":
        model.set_grad_checkpointing()
    return model


def precision(form: str, dtype: str, device: str) -> Any:
    """Autocast, unless the network is in float32 or carries its dtype."""
    import torch

    return nullcontext() if form == "folded" or dtype == "float32" else torch.autocast(device, getattr(torch, dtype))


def images(batch: int, form: str, device: str) -> Any:
    """Random images, the same in every process."""
    import torch

    found = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)
    return found.contiguous(memory_format=torch.channels_last) if form == "channels_last" else found


def forward_call(name: str, form: str, dtype: str, batch: int, device: str) -> Callable[[], Any]:
    """What one forward pass computes."""
    import torch

    model, x = build(name, form, dtype, device), images(batch, form, device)

    def call() -> Any:
        with torch.inference_mode(), precision(form, dtype, device):
            return model(x)

    return call


class TrainStep:
    """One training step: forward, backward, AdamW."""

    def __init__(self, name: str, form: str, dtype: str, batch: int, device: str) -> None:
        import torch

        self.model, self.x = build(name, form, dtype, device).train(), images(batch, form, device)
        self.target = torch.randn(batch, GENES, generator=torch.Generator().manual_seed(2)).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.form, self.dtype, self.device = form, dtype, device

    def __call__(self) -> None:
        """Do it."""
        import torch

        self.optimizer.zero_grad()
        with precision(self.form, self.dtype, self.device):
            loss = torch.nn.functional.mse_loss(self.model(self.x).float(), self.target)
        loss.backward()
        self.optimizer.step()

    def kept_bytes(self) -> int:
        """Bytes of what lives between steps: parameters and AdamW's moments (gradients are freed)."""
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *moments))


def seconds(call: Callable[[], Any], device: str) -> float:
    """Median time of a call in steady state."""
    import torch

    times = []
    for _ in range(WARM_UPS + REPEATS):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UPS:])


def peak_memory(step: TrainStep, resident_before_mb: float) -> dict[str, float]:
    """MB at the peak of a training step: tensors alive, and what the process holds above `resident_before_mb`."""
    from torch.profiler import ProfilerActivity, profile

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
    sizes = [event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]"]
    return {"tensors_mb": (max(sizes) + kept) / 2**20, "resident_mb": resident}


def resident_mb(key: str) -> float:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def machine(device: str) -> dict[str, Any]:
    """GFLOP/s of a matrix product of 2,048 in float32 and bfloat16, and what ran it."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
    for dtype in (torch.float32, torch.bfloat16):
        side = 2048 if device == "cpu" else 8192
        a = torch.randn(side, side, device=device, dtype=dtype)
        found[str(dtype).removeprefix("torch.")] = 2 * side**3 / seconds(lambda a=a: a @ a, device) / 1e9
    return found


def gflop(name: str) -> float:
    """GFLOP of one image's forward pass, a multiply-add counting two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, counter = build(name, "plain", "float32", "cpu"), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(images(1, "plain", "cpu"))
    return counter.get_total_flops() / 1e9


def error(form: str, dtype: str, device: str) -> float:
    """Largest relative l2 distance of an image's prediction to the plain network in float32, over eight images."""
    expected = forward_call("tcgn_ti", "plain", "float32", 8, device)()
    found = forward_call("tcgn_ti", form, dtype, 8, device)().float()
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def bounds(device: str, call: Callable[[], Any]) -> list[str]:
    """The operations that take most of a call, with their share of its time."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARM_UPS):
        call()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=kinds) as recorded:
        call()
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    return [f"{event.key} {getattr(event, key) / total:.0%} in {event.count} calls" for event in events[:6]]


def measure(request: dict[str, Any]) -> Any:
    """Answer one request of the parent process."""
    import torch

    device = request["device"]
    torch.set_num_threads(request["threads"])
    import tcgn_mil.models  # noqa: F401  (registers tcgn_ti with timm)

    kind, arguments = request["kind"], request.get("arguments", [])
    if kind == "forward":
        return seconds(forward_call(*arguments, device), device)
    if kind == "train":
        return seconds(TrainStep(*arguments, device), device)
    if kind == "memory":
        before = resident_mb("VmRSS")
        return peak_memory(TrainStep(*arguments, device), before)
    if kind == "profile":
        return bounds(device, forward_call(*arguments, device))
    return {"machine": lambda: machine(device), "gflop": lambda: gflop(*arguments),
            "error": lambda: error(*arguments, device)}[kind]()  # fmt: skip


def ask(kind: str, *arguments: Any, device: str, threads: int) -> Any:
    """Run a measurement in a process of its own."""
    request = {"kind": kind, "arguments": arguments, "device": device, "threads": threads}
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--measure", json.dumps(request)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"measuring {request} failed:\n{found.stderr[-2000:]}")
    return json.loads(found.stdout.splitlines()[-1])


def rounds(kind: str, networks: dict[str, Any], batch: int, count: int, **where: Any) -> dict[str, list[float]]:
    """Seconds of each network in each round; the networks take turns."""
    found: dict[str, list[float]] = {label: [] for label in networks}
    for _ in range(count):
        for label, arguments in networks.items():
            found[label].append(ask(kind, *arguments, batch, **where))
            print(f"{kind} {batch:4d}  {label:42s} {batch / found[label][-1]:8.1f} images/s", file=sys.stderr)
    return found


def table(title: str, found: dict[str, list[float]], batch: int) -> list[str]:
    """Markdown rows: images/s, ratio to the yardstick, and the range of the ratio over rounds."""
    base = found[YARDSTICK]
    lines = [f"\n### {title}\n", "| network | images/s | x resnet50 float32 | range over rounds |", "|---|---|---|---|"]
    for label, times in found.items():
        ratios = [yard / mine for yard, mine in zip(base, times, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(
            f"| {label} | {batch / statistics.median(times):.1f} | {statistics.median(ratios):.2f} | {spread} |"
        )
    return lines


def run(device: str, threads: int, count: int) -> tuple[dict[str, Any], list[str]]:
    """All measurements, and the tables made of them."""
    where: dict[str, Any] = {"device": device, "threads": threads}
    forward_batches, train_batch = ((8, 32), 16) if device == "cpu" else ((256,), 64)
    results: dict[str, Any] = {"machine": ask("machine", **where)}
    lines = [f"machine: {json.dumps(results['machine'])}"]
    for batch in forward_batches:
        found = results[f"forward {batch}"] = rounds("forward", FORWARD, batch, count, **where)
        lines += table(f"Forward, batch {batch}", found, batch)
    found = results[f"train {train_batch}"] = rounds("train", TRAIN, train_batch, count, **where)
    lines += table(f"Training step, batch {train_batch}", found, train_batch)
    lines += ["\n### Operations, precision, memory\n"]
    peaks = results["machine"]
    for name in ("tcgn_ti", "tcgn_xs", "tcgn_tiny", "resnet50"):
        results[f"gflop {name}"] = ask("gflop", name, **where)
        lines.append(f"- {name}: {results[f'gflop {name}']:.3f} GFLOP per image")
    for form, dtype in (("folded", "float32"), ("folded", "bfloat16"), ("plain", "bfloat16")):
        results[f"error {form} {dtype}"] = ask("error", form, dtype, **where)
        lines.append(f"- tcgn_ti {form} {dtype}: predictions within {results[f'error {form} {dtype}']:.1e} of float32")
    for label in ("tcgn_ti float32, folded", "tcgn_ti bfloat16, folded"):
        rate = (
            results["gflop tcgn_ti"]
            * forward_batches[-1]
            / statistics.median(results[f"forward {forward_batches[-1]}"][label])
        )
        dtype = FORWARD[label][2]
        lines.append(f"- {label}: {rate:.0f} GFLOP/s, {rate / peaks[dtype]:.0%} of the {dtype} matrix product's peak")
        results[f"profile {label}"] = ask("profile", *FORWARD[label], forward_batches[-1], **where)
        lines.append(f"  - {'; '.join(results[f'profile {label}'])}")
    if device == "cpu":
        lines += memory_lines(results, train_batch, where)
    return results, lines


def memory_lines(results: dict[str, Any], batch: int, where: dict[str, Any]) -> list[str]:
    """Peak memory of a training step of each network of `TRAIN`."""
    lines = []
    for label in list(TRAIN)[:3]:
        found = results[f"memory {label}"] = ask("memory", *TRAIN[label], batch, **where)
        base = results[f"memory {YARDSTICK}"]
        ratios = {key: found[key] / base[key] for key in found}
        lines.append(f"- {label}, training step, batch {batch}: {found['tensors_mb']:.0f} MB of tensors "
                     f"({ratios['tensors_mb']:.2f} x), {found['resident_mb']:.0f} MB resident ({ratios['resident_mb']:.2f} x)")  # fmt: skip
    return lines


def main() -> None:
    """Measure, print the tables, and write everything measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("backbone.json"), help="JSON file to write")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
        return
    from tcgn_mil.artefacts import write_json

    results, lines = run(options.device, options.threads, options.rounds)
    print("\n".join(lines))
    write_json(options.out, results)


if __name__ == "__main__":
    main()
