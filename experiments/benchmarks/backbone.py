"""Measure speed, memory and precision of the backbone beside timm's resnet50.

    python -m tcgn_mil.experiments.benchmarks.backbone --out backbone.json

Each measurement runs in a process of its own, which first warms up until its memory is in a steady
state, because the first steps pay for page faults. The networks take turns over several rounds, so
that a change of the machine's speed reaches all of them. The tables give medians and their ratio to
resnet50 in float32. ``--published MODULE:FUNCTION`` names a function without arguments that returns
the published network, from its own code; the tables then have its speed too. The cores should be
idle. What was measured, and what each change of the
network gave, is in experiments/results/backbone_speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.benchmarks.threads import use_threads_of_command
from tcgn_mil.io.atomic import write_json

YARDSTICK = "resnet50 float32"
PUBLISHED = "published float32"
MEASURES = "tcgn_mil.experiments.benchmarks.backbone_measures"
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


def ask(kind: str, *arguments: Any, device: str, threads: int) -> Any:
    """Run a measurement in a process of its own and return its answer."""
    request = {"kind": kind, "arguments": arguments, "device": device, "threads": threads}
    command = [sys.executable, "-m", MEASURES, json.dumps(request)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"measuring {request} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def rounds(
    kind: str, networks: dict[str, Any], batch: int, count: int, **where: Any
) -> dict[str, list[float]]:
    """Return the seconds of each network in each round; the networks take turns."""
    measured: dict[str, list[float]] = {label: [] for label in networks}
    for _ in range(count):
        for label, arguments in networks.items():
            measured[label].append(ask(kind, *arguments, batch, **where))
            print(
                f"{kind} {batch:4d}  {label:42s} {batch / measured[label][-1]:8.1f} images/s",
                file=sys.stderr,
            )
    return measured


def table(title: str, measured: dict[str, list[float]], batch: int) -> list[str]:
    """Return Markdown rows: images/s, and the ratio to each base with its range over the rounds."""
    bases = [label for label in (YARDSTICK, PUBLISHED) if label in measured]
    heads = "".join(f" x {label} | range over rounds |" for label in bases)
    lines = [
        f"\n### {title}\n",
        f"| network | images/s |{heads}",
        "|---|---|" + "---|---|" * len(bases),
    ]
    for label, times in measured.items():
        line = f"| {label} | {batch / statistics.median(times):.1f} |"
        for base in bases:
            ratios = [other / mine for other, mine in zip(measured[base], times, strict=True)]
            line += f" {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        lines.append(line)
    return lines


def run(
    device: str, threads: int, count: int, published: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return all measurements, and the lines of the tables that are made from them."""
    where: dict[str, Any] = {"device": device, "threads": threads}
    reference = {} if published is None else {PUBLISHED: (published, "published", "float32")}
    forward_batches, train_batch = ((8, 32), 16) if device == "cpu" else ((256,), 64)
    results: dict[str, Any] = {"machine": ask("machine", **where)}
    lines = [f"machine: {json.dumps(results['machine'])}"]
    for batch in forward_batches:
        measured = results[f"forward {batch}"] = rounds(
            "forward", FORWARD | reference, batch, count, **where
        )
        lines += table(f"Forward, batch {batch}", measured, batch)
    measured = results[f"train {train_batch}"] = rounds(
        "train", TRAIN | reference, train_batch, count, **where
    )
    lines += table(f"Training step, batch {train_batch}", measured, train_batch)
    lines += ["\n### Operations, precision, memory\n"]
    lines += operation_lines(results, where) + share_lines(results, forward_batches[-1], where)
    if device == "cpu":
        lines += memory_lines(results, train_batch, where)
    return results, lines


def operation_lines(results: dict[str, Any], where: dict[str, Any]) -> list[str]:
    """Return the operations per image of each network, and the error of each precision."""
    lines = []
    for name in ("tcgn_ti", "tcgn_xs", "tcgn_tiny", "resnet50"):
        results[f"gflop {name}"] = ask("gflop", name, **where)
        lines.append(f"- {name}: {results[f'gflop {name}']:.3f} GFLOP per image")
    for form, dtype in (("folded", "float32"), ("folded", "bfloat16"), ("plain", "bfloat16")):
        results[f"error {form} {dtype}"] = ask("error", form, dtype, **where)
        lines.append(
            f"- tcgn_ti {form} {dtype}: predictions within"
            f" {results[f'error {form} {dtype}']:.1e} of float32"
        )
    return lines


def share_lines(results: dict[str, Any], batch: int, where: dict[str, Any]) -> list[str]:
    """Compare the speed with that of a matrix product, and list the slowest operations."""
    lines = []
    for label in ("tcgn_ti float32, folded", "tcgn_ti bfloat16, folded"):
        dtype = FORWARD[label][2]
        rate = (
            results["gflop tcgn_ti"] * batch / statistics.median(results[f"forward {batch}"][label])
        )
        share = rate / results["machine"][dtype]
        results[f"profile {label}"] = ask("profile", *FORWARD[label], batch, **where)
        lines.append(
            f"- {label}, batch {batch}: {rate:.0f} GFLOP/s, {share:.0%} of the {dtype} matrix"
            " product's"
        )
        lines.append(f"  - {'; '.join(results[f'profile {label}'])}")
    return lines


def memory_lines(results: dict[str, Any], batch: int, where: dict[str, Any]) -> list[str]:
    """Return the peak memory of a training step of each float32 network in `TRAIN`."""
    lines = []
    for label in (label for label, (_, _, dtype) in TRAIN.items() if dtype == "float32"):
        measured = results[f"memory {label}"] = ask("memory", *TRAIN[label], batch, **where)
        tensors, resident = (
            measured[key] / results[f"memory {YARDSTICK}"][key]
            for key in ("tensors_mb", "resident_mb")
        )
        lines.append(
            f"- {label}, training step, batch {batch}: {measured['tensors_mb']:.0f} MB of tensors"
            f" ({tensors:.2f} x), {measured['resident_mb']:.0f} MB resident ({resident:.2f} x)"
        )
    return lines


def main() -> None:
    """Measure, print the tables, and write everything measured as JSON."""
    use_threads_of_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("backbone.json"), help="JSON file to write"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--published", help="MODULE:FUNCTION that returns the published network")
    options = parser.parse_args()
    results, lines = run(options.device, options.threads, options.rounds, options.published)
    print("\n".join(lines))
    write_json(options.out, results)


if __name__ == "__main__":
    main()
