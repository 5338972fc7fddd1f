"""Kill every verb at every rename and at random moments, fill its disk, take its folder away.

``python tests/helpers/killing.py`` tries all verbs and prints a table;
``--verb NAME`` and ``--fault NAME`` choose, and ``--moments`` is the number of random moments.
After each fault the verb runs again, and has to write the same files, byte by byte, as a run that
nothing disturbed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from disturbed_runs import (
    Disturbance,
    DisturbedVerb,
    Ended,
    kill_after,
    kill_at_rename,
    limit_files,
    obey_permissions,
    remove_at_rename,
)
from verb_cases import CASES, Inputs

KILLED, STOPPED, FAILED = -9, -14, 2


class Trial(NamedTuple):
    """A fault.

    Attributes
    ----------
    name
        What is done, for the message.
    disturb
        Called in the process of the run.
    codes
        Exit codes that are right.
    before, after
        Called in this process before and after the disturbed run.
    """

    name: str
    disturb: Disturbance
    codes: tuple[int, ...]
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


class Outcome(NamedTuple):
    """What came of a trial; empty texts mean that all is well.

    Attributes
    ----------
    trial
        Name of the trial.
    manners
        What was wrong with the end of the disturbed run.
    wrong
        Files that differ after the next run.
    lost
        Why the next run did not finish.
    """

    trial: str
    manners: str
    wrong: str
    lost: str

    def __str__(self) -> str:
        return f"{self.trial}: {self.manners or self.lost or self.wrong or 'recovered'}"

    @property
    def is_well(self) -> bool:
        return not (self.manners or self.wrong or self.lost)


def killed_at_renames(verb: DisturbedVerb) -> list[Trial]:
    """Return a kill at each of the renames."""
    numbers = range(1, verb.count_renames() + 1)
    return [Trial(f"killed at rename {n}", kill_at_rename(n), (KILLED,)) for n in numbers]


def killed_at_moments(verb: DisturbedVerb, count: int) -> list[Trial]:
    """Return kills at random moments of the run."""
    verb.clear()
    start = time.perf_counter()
    verb.run()
    seconds, rng = time.perf_counter() - start, random.Random(0)
    moments = sorted(rng.uniform(0.01, seconds) for _ in range(count))
    # A run that was quicker than the first one ends before.
    return [Trial(f"killed after {s:.2f} s", kill_after(s), (STOPPED, 0)) for s in moments]


def limited_files(verb: DisturbedVerb) -> list[Trial]:
    """Return trials in which one file after another, by size, is too large for the disk."""
    sizes = sorted({len(content) for content in verb.expected.values()} - {0})
    return [Trial(f"files up to {n - 1} bytes", limit_files(n - 1), (0, 1, 2)) for n in sizes]


def full_disks(verb: DisturbedVerb) -> list[Trial]:
    """Return trials on disks of a part of the size that the verb needs (root on Linux only)."""
    total = sum(-(-len(content) // 4096) * 4096 for content in verb.expected.values())

    def mount(share: float) -> None:
        size = f"size={max(8192, int(share * total) // 4096 * 4096)}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(verb.work)], check=True)

    def unmount() -> None:
        # What was written goes on with the next run, on a disk with space.
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(verb.work, folder, dirs_exist_ok=True, symlinks=True)
            subprocess.run(["umount", str(verb.work)], check=True)
            shutil.copytree(folder, verb.work, dirs_exist_ok=True, symlinks=True)

    return [
        Trial(
            f"disk with {share:.0%} of what is needed",
            lambda: None,
            (1, 2),
            lambda share=share: mount(share),
            unmount,
        )
        for share in (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
    ]


def read_only_folders(verb: DisturbedVerb) -> list[Trial]:
    """Return a folder that may only be read, before and after it holds results."""
    out = verb.work / verb.case.out

    def forbid(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o555)

    def allow() -> None:
        for folder in (verb.work, out):
            if folder.is_dir():
                folder.chmod(0o755)

    folders = {"the folder above": verb.work}
    if not (out.suffix or verb.case.replaces):
        folders["the folder"] = out
    return [
        Trial(
            f"{name} may only be read",
            obey_permissions,
            (FAILED,),
            lambda folder=folder: forbid(folder),
            allow,
        )
        for name, folder in folders.items()
    ]


def vanished_folders(verb: DisturbedVerb) -> list[Trial]:
    """Return trials in which the folder is removed before one of the renames."""
    return [
        Trial(f"folder removed at rename {n}", remove_at_rename(verb.work, n), (0, 1, 2))
        for n in range(2, verb.count_renames() + 1)
    ]


def try_faults(verb: DisturbedVerb, trials: list[Trial]) -> Iterator[Outcome]:
    """Yield the outcome of each trial, all of which begin with an empty folder."""
    for trial in trials:
        verb.clear()
        trial.before()
        try:
            ended = verb.run(trial.disturb)
        finally:
            trial.after()
        manners = ended.problem(*trial.codes)
        verb.work.mkdir(exist_ok=True)
        if not manners and ended.code > 0 and (left := _temporary(verb)):
            manners = f"left {left}"
        again: Ended = verb.run()
        different = verb.differences() if again.code == 0 else []
        yield Outcome(trial.name, manners, ", ".join(different), again.problem(0))


def _temporary(verb: DisturbedVerb) -> list[str]:
    return [p.name for p in verb.work.rglob(".*") if ".tmp" in p.name or p.is_dir()]


FAULTS: dict[str, Callable[[DisturbedVerb, int], list[Trial]]] = {
    "rename": lambda verb, _: killed_at_renames(verb),
    "moment": killed_at_moments,
    "large": lambda verb, _: limited_files(verb),
    "full": lambda verb, _: full_disks(verb),
    "read-only": lambda verb, _: read_only_folders(verb),
    "vanished": lambda verb, _: vanished_folders(verb),
}


def spread(trials: list[Trial], at_most: int | None) -> list[Trial]:
    """Return some of the trials, among them the first and the last."""
    if at_most is None or len(trials) <= at_most:
        return trials
    last = len(trials) - 1
    return [trials[round(last * place / max(1, at_most - 1))] for place in range(at_most)]


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--verb", action="append", choices=CASES, help="one verb; repeatable")
    options.add_argument("--fault", action="append", choices=FAULTS, help="one fault; repeatable")
    options.add_argument("--moments", type=int, default=10, help="number of random moments")
    options.add_argument("--at-most", type=int, help="trials of a fault, spread evenly")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    print("verb | fault | tried | recovered | wrong | lost | not one line")
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        inputs = Inputs(Path(name) / "inputs")
        for case in given.verb or CASES:
            verb = DisturbedVerb(CASES[case], inputs, Path(name) / case)
            for fault in given.fault or FAULTS:
                trials = spread(FAULTS[fault](verb, given.moments), given.at_most)
                outcomes = list(try_faults(verb, trials))
                for outcome in outcomes:
                    if not outcome.is_well:
                        print(f"  {case}, {outcome}", file=sys.stderr)
                lost = sum(bool(each.lost) for each in outcomes)
                wrong = sum(bool(each.wrong) for each in outcomes)
                manners = sum(bool(each.manners) for each in outcomes)
                well = len(outcomes) - lost - wrong
                row = (case, fault, len(outcomes), well, wrong, lost, manners)
                print(*row, sep=" | ", flush=True)
                bad += lost + wrong + manners
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
