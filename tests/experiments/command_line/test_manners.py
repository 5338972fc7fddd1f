"""Options of the whole command, early checks, former names, logs and JSON."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments import verbs
from tcgn_mil.experiments.command_line.arguments import FORMER_NAMES
from tcgn_mil.experiments.command_line.error_codes import CODES, OTHER, WRITE, code_of
from tcgn_mil.experiments.command_line.examples import EXAMPLES
from tcgn_mil.experiments.command_line.help_pages import ADVANCED, PANELS
from tcgn_mil.experiments.command_line.log_files import RUN_LOG
from tcgn_mil.preprocessing.download.config import GdcConfig
from tcgn_mil.progress import Progress, tell

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a command line in this process; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def as_spots(monkeypatch: pytest.MonkeyPatch):
    """Let the verb ``spots`` do something else."""

    def replace(work) -> None:
        def command(out: Path = Path("x")) -> None:
            work(out)

        changed = dict(verbs._VERBS) | {"spots": verbs.Verb("spots", command)}
        monkeypatch.setattr(verbs, "_VERBS", changed)

    return replace


def commands() -> dict[str, Any]:
    return typer.main.get_command(cli.make_app()).commands


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("encode . --tiles . --batch-size 0", "batch_size"),
        ("encode . --tiles . --precision fp16", "'32-true'"),
        ("encode . --tiles . --encoder no.safetensors", "no.safetensors"),
        ("predict --model no --features .", "no: there is no such file or folder (--model)"),
        ("predict --slides . --batch-size 0", "batch_size"),
        ("predict --slides . --device cpu --engine ray", "Ray chooses the GPUs"),
        ("spot-cv --group-by site", "group_by"),
        ("pretrain --spots no", "run tcgn-mil spots"),
        ("slide-cv --cohort no.h5ad", "run tcgn-mil bulk"),
        ("slide-cv --cohort . --features . --targets no.csv", "--targets"),
        ("survive --clinical no.csv", "run tcgn-mil clinical"),
        ("associate --predicted no.h5ad", "--predicted"),
        ("explain --gene A --image no.png --mpp 1", "--image"),
    ],
)
def test_wrong_options_and_paths_are_refused_in_one_line(run, line: str, said: str) -> None:
    code, _, err = run(*shlex.split(line))
    assert code == 2
    (message,) = [text for text in err.splitlines() if text.startswith("error: ")]
    assert said in message
    assert "Fix: " in message


def test_a_wrong_option_is_refused_before_torch_loads() -> None:
    lines = [
        "encode . --precision fp16",
        "spot-cv --group-by x",
        "predict --model no",
        "pretrain",
        "encode . --tiles . --encoder uni3",
        "encode . --tiles . --encoder timm:resnet10",
        "encode . --tiles . --encoder local-dir:. --encoder-model resnet10",
        "pretrain --spots . --set model=tcgn_tinny",
        "slide-cv --cohort . --features . --set model.pooling=median",
        "demo --preset tiny",
        "report nowhere",
        "publish nowhere",
        "export-predictions nowhere",
    ]
    code = f"""
import sys
from tcgn_mil.experiments import main
for line in {lines}:
    sys.argv = ["tcgn-mil", *line.split()]
    try:
        main.main()
    except SystemExit as ended:
        assert ended.code == 2
print(*{{"torch", "timm"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_verb_has_an_example_that_can_be_parsed() -> None:
    assert {*commands()} <= {*EXAMPLES}
    for verb, command in commands().items():
        line = EXAMPLES[verb].partition(" > ")[0]
        program, named, *arguments = shlex.split(line)
        assert (program, named) == ("tcgn-mil", verb)
        command.make_context(verb, arguments)


def test_the_examples_of_values_that_are_checked_later_are_right() -> None:
    """The parser takes any text for these; the config classes do not."""
    words = EXAMPLES["download"].split()
    given = {name: words[words.index(f"--{name}") + 1] for name in ("slides", "expression")}
    assert GdcConfig(project="TCGA-BRCA", **given).expression == "star"
    for verb in ("associate", "survive"):
        assert "/out_of_fold.h5ad" in EXAMPLES[verb], "the file with measured values beside"


def test_options_of_a_verb_are_in_groups_with_the_rarest_last() -> None:
    for verb, command in commands().items():
        groups = [
            each.rich_help_panel
            for each in command.params
            if isinstance(each, typer.core.TyperOption) and each.name != "help"
        ]
        assert {*groups} <= {*PANELS}, verb
        assert groups == sorted(groups, key=PANELS.index), verb
    assert PANELS[-1] == ADVANCED


def test_an_option_has_one_name_in_all_verbs() -> None:
    names: dict[str, set[str]] = {}
    for command in commands().values():
        for each in command.params:
            if isinstance(each, typer.core.TyperOption):
                names.setdefault(each.opts[0], set()).add(str(each.name))
    assert {option: found for option, found in names.items() if len(found) > 1} == {}


def test_former_names_still_work_and_warn(run) -> None:
    for (verb, former), (present, _) in FORMER_NAMES.items():
        shown = [option for each in commands()[verb].params for option in each.opts]
        assert present in shown
        assert former not in shown
    code, _, err = run("survive", "--clinical", "no.csv", "--signatures", "sets.gmt")
    assert code == 2
    assert "warning: --signatures of survive is now called --sets" in err
    assert "no.csv" in err
    code, out, err = run("finetune", "--model", "ridge", "--show-config")
    assert (code, err.count("is now called --kind")) == (0, 1)
    assert "kind: ridge" in out


def test_json_has_the_error_and_its_code(run) -> None:
    code, out, err = run("encode", "nowhere", "--json")
    shown = json.loads(out)
    assert (code, shown["exit_code"], shown["verb"]) == (2, 2, "encode")
    assert shown["error"]["code"] == "E-path"
    assert shown["error"]["message"] in err
    assert "[E-path]" in err


def test_json_has_the_summary_and_what_was_printed(run, as_spots, tmp_path: Path) -> None:
    def work(out: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "summary.json").write_text('{"n": 3}')
        typer.echo("3 sections")

    as_spots(work)
    code, out, _ = run("spots", "--out", tmp_path / "out", "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["summary"], shown["printed"]) == ({"n": 3}, ["3 sections"])


def test_a_run_folder_and_a_log_file_keep_what_happened(run, as_spots, tmp_path: Path) -> None:
    def work(out: Path) -> None:
        for _ in Progress(range(2), desc="spots", unit="section"):
            out.mkdir(exist_ok=True)
        tell("one section is odd")
        typer.echo("2 sections")

    as_spots(work)
    log = tmp_path / "logs" / "a.log"
    assert run("spots", "--out", tmp_path / "out", "--log-file", log, "--quiet")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / RUN_LOG).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "progress", "progress", "note", "end"]
    assert lines[0]["arguments"][-2:] == ["--out", str(tmp_path / "out")]
    assert (lines[2]["done"], lines[2]["total"]) == (2, 2)
    assert lines[-1]["exit_code"] == 0
    text = log.read_text()
    assert "INFO 2 sections\n" in text
    assert text.count("one section is odd") == 1


def test_a_refused_command_makes_no_folder_for_its_log(run, tmp_path: Path) -> None:
    assert run("encode", "nowhere", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_log_file_that_cannot_be_written_is_refused(run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = run("encode", "x", "--log-file", tmp_path / "file" / "a.log")
    assert code == 2
    assert "the log file cannot be written" in err


def test_warnings_of_other_packages_are_hidden_unless_verbose(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, warnings, logging\n"
        "from tcgn_mil.experiments import main\n"
        "from tcgn_mil.experiments.verbs import Verb, register_verb\n"
        "def odd() -> None:\n"
        "    'Warn.'\n"
        "    warnings.warn('a foreign warning')\n"
        "    logging.getLogger('foreign').warning('a foreign record')\n"
        "register_verb(Verb('odd', odd))\n"
        "main.main()\n"
    )
    command = [sys.executable, str(script), "odd"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    loud = subprocess.run([*command, "--verbose"], capture_output=True, text=True, check=True)
    assert "a foreign warning" in loud.stderr
    assert "a foreign record" in loud.stderr


def test_filters_that_are_set_win(run, as_spots) -> None:
    as_spots(lambda out: warnings.warn("seen", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="seen"):
            run("spots")


def test_help_is_readable_on_narrow_screens_and_without_colour(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (80, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        _, out, _ = run("encode", "--help")
        assert "\x1b[3" not in out
        assert max(map(len, out.splitlines())) <= width
        assert "--tiles" in out


def modules_with_errors() -> list[str]:
    """Return the modules of the package that raise InputError."""
    found = []
    folders = {"tcgn_mil": "", "preprocessing": "preprocessing.", "experiments": "experiments."}
    for folder, prefix in folders.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if folder == "tcgn_mil" and inside.parts[0] in ("preprocessing", "experiments"):
                continue
            if "InputError(" in path.read_text(encoding="utf-8"):
                name = ".".join(inside.with_suffix("").parts)
                found.append(f"tcgn_mil.{prefix}{name}")
    return found


def test_the_page_of_errors_explains_every_code() -> None:
    page = (ROOT / "docs" / "reference" / "error_codes.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## E-")}
    assert headings == {*CODES.values(), OTHER, WRITE}


def test_every_beginning_of_a_module_name_leads_somewhere() -> None:
    modules = modules_with_errors()
    assert len(modules) > 100
    for beginning in CODES:
        full = f"tcgn_mil.{beginning}"
        path = ROOT.joinpath(*full.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), beginning


def test_the_code_is_that_of_the_module_that_raised() -> None:
    source = "def read():\n    raise InputError('x')"
    namespace = {"InputError": InputError, "__name__": "tcgn_mil.io.tables.made"}
    exec(compile(source, "made", "exec"), namespace)
    with pytest.raises(InputError) as caught:
        namespace["read"]()
    assert code_of(caught.value) == "E-table"
