"""Look at the machine and say what is missing: versions, libraries, GPU, disk and network.

Each check is a function that gives a row and never raises, so that the page is also whole on a
machine on which nothing works.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tcgn_mil.experiments.command_line.process import usable_cores
from tcgn_mil.version import __version__

OK, NOTE, BAD = "ok", "note", "bad"
_LEAST_DISK_GB = 5.0
_PACKAGES = ("torch", "timm", "numpy", "pandas", "h5py", "anndata", "scikit-learn")
_HUB_WAIT_S = 5.0
_SELF_TEST_S = 20.0


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    check
        What was looked at.
    verdict
        ``ok``; ``note`` for what limits some uses; ``bad`` for what must be mended.
    found
        What was found.
    fix
        One thing to do; empty if there is nothing to do.
    """

    check: str
    verdict: str
    found: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the values for JSON."""
        return asdict(self)


def examine(folder: Path, *, self_test: bool = True) -> list[Finding]:
    """Run all checks.

    Parameters
    ----------
    folder
        Folder in which results would be written.
    self_test
        Also train and apply a small model, for at most about 20 seconds.

    Returns
    -------
    One finding for each check.
    """
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("versions", _versions),
        ("OpenSlide", _openslide),
        ("GPU", _gpu),
        ("threads", _threads),
        ("disk", lambda: _disk(folder)),
        ("model hub", _hub),
    ]
    if self_test:
        checks.append(("self-test", _self_test))
    return [_safely(name, check) for name, check in checks]


def verdict_of(findings: list[Finding]) -> str:
    """Return one sentence about all findings."""
    bad = [finding.check for finding in findings if finding.verdict == BAD]
    notes = [finding.check for finding in findings if finding.verdict == NOTE]
    if bad:
        return f"Not ready: mend {', '.join(bad)}."
    if notes:
        return f"Ready, with limits: {', '.join(notes)}."
    return "Ready."


def _safely(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a broken library is a finding, and not the end of the page
        said = " ".join(str(error).split())[:200]
        return Finding(
            name, BAD, f"{type(error).__name__}: {said}", "reinstall the package that it names"
        )


def _versions() -> Finding:
    found, missing = [f"tcgn-mil {__version__}", f"Python {platform.python_version()}"], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        fix = f"pip install {' '.join(missing)}"
        return Finding("versions", BAD, f"{', '.join(missing)} missing", fix)
    return Finding("versions", OK, ", ".join(found))


def _openslide() -> Finding:
    try:
        openslide = importlib.import_module("openslide")
    except Exception:  # no package, or no library that it can load
        return Finding(
            "OpenSlide",
            NOTE,
            "not there: slides of scanners (.svs, .ndpi, .mrxs) cannot be opened; features, tables"
            " and TIFF can",
            "pip install openslide-python openslide-bin",
        )
    return Finding("OpenSlide", OK, f"library {openslide.__library_version__}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        return Finding("GPU", OK, ", ".join(names))
    if torch.backends.mps.is_available():
        return Finding("GPU", OK, "Apple GPU (mps)")
    return Finding(
        "GPU",
        NOTE,
        "none: features are encoded on the CPU, which is slow for large encoders",
        "encode on a machine with a GPU, or import features of another tool",
    )


def _threads() -> Finding:
    import torch

    cores, threads = usable_cores(), torch.get_num_threads()
    found = f"{cores} cores may be used, torch uses {threads} threads"
    if threads > cores:
        return Finding("threads", NOTE, found, f"set OMP_NUM_THREADS={cores}")
    return Finding("threads", OK, found)


def _disk(folder: Path) -> Finding:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        free = shutil.disk_usage(place).free / 1e9
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(b"0" * 1024)
    except OSError as error:
        return Finding(
            "disk",
            BAD,
            f"{place} cannot be written ({error.strerror})",
            "run the commands in a folder that can be written, or free some space",
        )
    found = f"{free:.0f} GB free in {place}"
    if free < _LEAST_DISK_GB:
        return Finding("disk", NOTE, found, "free some space; features take about 10 MB a slide")
    return Finding("disk", OK, found)


def _hub() -> Finding:
    from tcgn_mil.hub import endpoint, is_offline

    if is_offline():
        return Finding(
            "model hub", NOTE, "offline mode: only weights that were downloaded before are used"
        )
    import socket
    from urllib.parse import urlsplit

    address = urlsplit(endpoint())
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        with socket.create_connection((str(address.hostname), port), timeout=_HUB_WAIT_S):
            return Finding("model hub", OK, f"{address.hostname} answers")
    except OSError as error:
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        through = f" (a proxy is set, and was not tried: {proxy})" if proxy else ""
        return Finding(
            "model hub",
            NOTE,
            f"{address.hostname} does not answer: {error}{through}",
            "download the weights elsewhere, copy the folder here, and give"
            " --encoder local-dir:FOLDER",
        )


def _self_test() -> Finding:
    """Train a slide model on made features, and predict with it."""
    import torch

    from tcgn_mil.models.slide_regressor import SlideRegressor
    from tcgn_mil.settings.slide_model import MilConfig

    began = time.monotonic()
    torch.manual_seed(0)
    model = SlideRegressor(16, 4, MilConfig(embedding=8, attention_hidden=8, dropout=0.0))
    features, mask = torch.randn(32, 20, 16), torch.ones(32, 20, dtype=torch.bool)
    wanted = features.mean(dim=1)[:, :4]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    while len(losses) < 60 and time.monotonic() - began < _SELF_TEST_S:
        loss = torch.nn.functional.mse_loss(model(features, mask).expression, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.monotonic() - began
    fell = f"{losses[0]:.3f} to {losses[-1]:.3f}"
    found = f"trained {len(losses)} steps in {seconds:.1f} s, loss {fell}"
    if losses[-1] < losses[0]:
        return Finding("self-test", OK, found)
    return Finding("self-test", BAD, found, "reinstall torch; training does not work here")
