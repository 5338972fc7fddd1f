"""Tests of the source archive, the wheel, and the recipes of containers and of conda."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

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


def copy_tracked(source: Path, *, links: bool) -> None:
    """Copy the tracked files, so that a build leaves nothing in the checkout."""
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


class Built(NamedTuple):
    archive: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    copy_tracked(folder / "source", links=True)
    (folder / "source" / "demo").mkdir()
    (folder / "source" / "demo" / "slide.svs").write_text("data beside the code")
    command = [sys.executable, "-m", "build", "--outdir", folder, folder / "source"]
    subprocess.run(command, check=True, capture_output=True)
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(archive, wheel)


@pytest.fixture(scope="module")
def wheel(built: Built) -> Path:
    return built.wheel


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
        ".txt",
    )
    expected = [
        "/".join([*package.split("."), *path.relative_to(ROOT / folder).parts])
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in shipped and "results" not in path.parts
    ]
    assert files_of(wheel) == sorted(expected)


def test_wheel_is_the_same_where_links_cannot_be_made(wheel: Path, tmp_path: Path) -> None:
    copy_tracked(tmp_path / "source", links=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, tmp_path, tmp_path / "source"], check=True)
    assert files_of(next(tmp_path.glob("*.whl"))) == files_of(wheel)


def test_source_archive_has_the_tracked_files_alone(built: Built) -> None:
    """Tests and documentation are in it, and data are not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name for name in listed.stdout.split("\n") if name}
    links = {name for name in tracked if (ROOT / name).is_symlink()}
    with tarfile.open(built.archive) as archive:
        names = {
            name.partition("/")[2] for name in archive.getnames() if "egg-info" not in name
        } - {""}
        files = {name for name in names if not any(each.startswith(f"{name}/") for each in names)}
    assert files - {"PKG-INFO", "setup.cfg"} == tracked - links - {"setup.cfg"}


def test_indexes_accept_the_metadata(built: Built) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *built]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_citation_changelog_and_recipe_have_the_version(
    declared: configparser.ConfigParser,
) -> None:
    version = declared["metadata"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    assert recipe()["context"]["version"] == version


def recipe() -> dict[str, Any]:
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


# Names in conda that differ from those in the index of Python packages.
IN_CONDA = {
    "huggingface-hub": "huggingface_hub",
    "lightning-fabric": "pytorch-lightning",
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "py-opencv",
    "openslide-bin": "openslide",
    "torch": "pytorch",
    "typing-extensions": "typing_extensions",
}


def test_conda_recipe_needs_what_the_package_needs(declared: configparser.ConfigParser) -> None:
    options = declared["options"]
    expected = {f"python >={options['python_requires'].removeprefix('>=')}"}
    for line in filter(None, options["install_requires"].split("\n")):
        name, bounds = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", line).groups()  # type: ignore[union-attr]
        bounds = re.sub(r"(>=4\.0\.0)\.\d+", r"\1", bounds) if name == "openslide-bin" else bounds
        expected.add(f"{IN_CONDA.get(name, name)} {bounds}")
    content = recipe()
    minimum = content["context"]["python_min"]
    needed = {line.replace("${{ python_min }}", minimum) for line in content["requirements"]["run"]}
    assert needed == expected
    (script,) = declared["options.entry_points"]["console_scripts"].strip().split("\n")
    assert content["build"]["python"]["entry_points"] == [script]


def test_containers_copy_what_a_wheel_is_made_of() -> None:
    """Each stage that is named by the documentation exists, and no source folder is forgotten."""
    docker = (ROOT / "packaging" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM \S+ AS (\w+)$", docker, re.MULTILINE) == [
        "wheel",
        "base",
        "cpu",
        "cuda",
    ]
    kept = (ROOT / "packaging" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    apptainer = (ROOT / "packaging" / "tcgn-mil.def").read_text(encoding="utf-8")
    needed = {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", *FOLDERS}
    assert set(re.findall(r"^!(.+)$", kept, re.MULTILINE)) == needed
    assert set(re.findall(r"^    (\S+) /source/\1$", apptainer, re.MULTILINE)) == needed
    sections = set(re.findall(r"^%(\w+)", apptainer, re.MULTILINE))
    assert sections == {
        "arguments",
        "environment",
        "files",
        "labels",
        "post",
        "runscript",
        "test",
    }


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


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([{"name": "a", "skip_reason": "no answer"}], 1, "0 of 1 installed packages"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}],
            0,
            "VULNERABLE: a 1: X-1; mended in 2",
        ),
    ],
)
def test_an_audit_that_looked_up_nothing_is_not_called_clean(
    tmp_path: Path, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    report = tmp_path / "audit.json"
    report.write_text(json.dumps({"dependencies": packages}))
    command = [sys.executable, ROOT / ".ci" / "show_audit.py", report]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stdout
