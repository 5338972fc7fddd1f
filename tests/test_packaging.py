"""Tests that what is declared is on disk, and that a wheel works outside the checkout."""

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


def build(out: Path, *, links: bool) -> Path:
    """Build a wheel from a copy of the tracked files, so that nothing is left in the checkout."""
    source = out / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\n")):
        original, copy = ROOT / name, source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_symlink() and links:
            copy.symlink_to(original.readlink())
        elif original.is_symlink():
            copy.write_text(str(original.readlink()))  # as git does where links cannot be made
        elif original.is_file():
            copy.write_bytes(original.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out]
    subprocess.run([*command, source], check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), links=True)


def files_of(wheel: Path) -> list[str]:
    """Return the names of all files in a wheel, other than its metadata."""
    names = zipfile.ZipFile(wheel).namelist()
    return sorted(name for name in names if ".dist-info/" not in name)


def test_wheel_holds_each_file_of_the_folders_once(wheel: Path) -> None:
    shipped = (
        ".py",
        ".typed",
        ".yaml",
        ".html",
        ".css",
        ".js",
        ".gmt",
        ".csv",
        ".md",
        ".json",
        ".gz",
    )
    expected = [
        "/".join([*package.split("."), *path.relative_to(ROOT / folder).parts])
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in shipped and "results" not in path.parts
    ]
    assert files_of(wheel) == sorted(expected)


def test_wheel_is_the_same_where_links_cannot_be_made(wheel: Path, tmp_path: Path) -> None:
    assert files_of(build(tmp_path, links=False)) == files_of(wheel)


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
