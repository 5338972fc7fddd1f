"""What is declared is what is on disk, and a built wheel works outside the checkout."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "tcgn_mil": "tcgn_mil",
    "preprocessing": "tcgn_mil.preprocessing",
    "experiments": "tcgn_mil.experiments",
}


@pytest.fixture(scope="module")
def declared() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_declared_packages_are_the_folders_on_disk(declared: configparser.ConfigParser) -> None:
    on_disk = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(declared["options"]["packages"].split()) == on_disk


def test_no_module_lies_outside_a_package() -> None:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), (
                f"{path.parent} has modules but no __init__.py"
            )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, tracked):  # a copy, so that building leaves nothing in the checkout
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source],
        check=True,
    )
    return next(out.glob("*.whl"))


def test_wheel_carries_every_module_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if (
                path.suffix in (".py", ".yaml", ".html", ".gmt", ".typed")
                and "results" not in path.parts
            ):
                expected = "/".join([*package.split("."), *path.relative_to(ROOT / folder).parts])
                assert expected in names


def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import tcgn_mil, tcgn_mil.preprocessing, tcgn_mil.experiments.main as cli\n"
        f"assert tcgn_mil.__file__.startswith({str(site)!r}), tcgn_mil.__file__\n"
        f"assert cli.__file__.startswith({str(site)!r}), cli.__file__\n"
        "sys.argv = ['tcgn-mil', '--help']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout
