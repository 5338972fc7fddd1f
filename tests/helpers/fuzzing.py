"""Damage files of every kind by seeds, and report what is neither read nor refused in one line.

``python tests/helpers/fuzzing.py --seconds 60`` gives every kind of file one minute;
``--only NAME`` runs one kind, and ``--first`` sets the first seed.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_targets import TARGETS, Target

from tcgn_mil.errors import InputError

SLOW_SECONDS = 8.0  # of CPU, for files of a few kilobytes
ENDLESS_SECONDS = 60.0  # a busy machine may take long for one file


@dataclass(frozen=True)
class Finding:
    """One damaged file that a reader did not handle."""

    target: str
    seed: int
    mutation: str
    problem: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.target}, seed {self.seed} ({self.mutation}): {self.problem} {self.place}"


class Fuzzer:
    """Damages and reads the file of one target.

    Parameters
    ----------
    target
        The kind of file.
    folder
        An empty folder to work in.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.original = folder / "original"
        self.original.mkdir()
        self.path = target.make(self.original)
        target.read(self.path)  # the file is correct before it is damaged

    def try_seed(self, seed: int) -> Finding | None:
        """Damage the file by a seed and read it; return what went wrong, if anything did."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.original, work)
        path = work / self.path.name
        rng = random.Random(seed)
        mutation = rng.choice(self.target.mutations)
        try:
            mutation(path, rng)
        except Exception:  # a value that cannot be stored is no damaged file
            return None
        return self._outcome(path, seed, mutation.__name__)

    def _outcome(self, path: Path, seed: int, mutation: str) -> Finding | None:
        def found(problem: str, place: str = "") -> Finding:
            return Finding(self.target.name, seed, mutation, problem, place)

        start = time.process_time()
        try:
            self.target.read(path)
        except InputError as error:
            text = str(error)
            if len(text.splitlines()) != 1:
                return found(f"the error has several lines: {text[:300]!r}")
            if str(path.parent) not in text:
                return found(f"the error names no file: {text[:300]}")
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            own = [f for f in traceback.extract_tb(error.__traceback__) if "tcgn_mil" in f.filename]
            last = own[-1] if own else frame
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            return found(said, f"at {Path(last.filename).name}:{last.lineno} ({last.name})")
        seconds = time.process_time() - start
        return found(f"took {seconds:.1f} s") if seconds > SLOW_SECONDS else None


def fuzz(
    target: Target, folder: Path, *, seconds: float, first: int = 0
) -> Iterator[Finding | None]:
    """Yield the outcome of one seed after another, for some seconds and 20 seeds at least.

    The seeds are tried in a process of their own, because damaged files can end a process or keep
    it for ever inside of a library in C.
    """
    fuzzer = Fuzzer(target, folder)
    end = time.perf_counter() + seconds
    seed = first
    while seed < first + 20 or time.perf_counter() < end:
        # A fork is fast, and the threads of the libraries are not used in the child.
        results, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_try_seeds, args=(fuzzer, seed, sender)
        )
        process.start()
        sender.close()
        while seed < first + 20 or time.perf_counter() < end:
            try:
                if not results.poll(ENDLESS_SECONDS):
                    yield Finding(target.name, seed, "", "does not end")
                    break
                yield results.recv()
            except EOFError:
                yield Finding(target.name, seed, "", "ends the process")
                break
            finally:
                seed += 1
        process.kill()
        process.join()


def _try_seeds(fuzzer: Fuzzer, first: int, sender: Connection) -> None:
    for seed in itertools.count(first):
        sender.send(fuzzer.try_seed(seed))


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10, help="for each kind of file")
    options.add_argument("--first", type=int, default=0, help="first seed")
    options.add_argument("--only", default="", help="name of one kind of file")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    logging.getLogger("tifffile").propagate = False
    inputs = findings = 0
    for target in TARGETS:
        if given.only not in ("", target.name):
            continue
        seen: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                count = 0
                for finding in fuzz(target, Path(folder), seconds=given.seconds, first=given.first):
                    count += 1
                    if finding is not None:
                        key = finding.place or finding.problem[:60]
                        seen[key] = seen.get(key, 0) + 1
                        if seen[key] == 1:
                            print(finding, flush=True)
            except Exception as error:
                traceback.print_exc()
                print(f"{target.name}: cannot be made or read undamaged: {error}")
        inputs, findings = inputs + count, findings + len(seen)
        print(f"{target.name}: {count} inputs, {len(seen)} findings", file=sys.stderr, flush=True)
    print(f"{inputs} inputs, {findings} findings")
    os._exit(1 if findings else 0)  # damaged files may leave broken objects behind


if __name__ == "__main__":
    main()
