"""The command line without a stack: help, exit codes, one JSON document, messages that say how to go on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli.__main__ import COMMANDS, dcoder
from shared.cli.documents import ingested_text, named_files, unusable
from shared.cli.failures import Failed, Misused, typed
from shared.cli.functions import scaffold
from shared.cli.output import table
from shared.cli.progress import LINES, answer_lines, progress_line
from shared.host.home import ensure_keys, store_secrets
from shared.host.stack import ROOT
from tests.fixtures.stack import Cli

NEED_A_STACK = (
    ("ask", "why?"),
    ("ingest", "README.md"),
    ("usage",),
    ("price", "ls"),
    ("price", "set", "m", "--input", "1", "--output", "1"),
    ("price", "rm", "m", "--since", "2026-11-01"),
    ("audit", "verify"),
    ("tenant", "ls"),
    ("tenant", "add", "acme"),
    ("tenant", "rm", "acme", "--yes"),
    ("key", "ls"),
    ("key", "create"),
    ("key", "rotate", "k"),
    ("key", "revoke", "k"),
    ("functions", "run", "governance-tenants"),
)
MISUSES = (
    ("nonsense",),
    ("ask",),
    ("ask", " "),
    ("price", "set", "m"),
    ("price", "set", "m", "--rate", "video=1"),
    ("up", "--sideways"),
    ("logs", "nothing-of-that-name"),
    ("tenant", "rm", "acme"),
    ("functions", "new", "NotAName"),
    ("functions", "run", "no-such-function"),
    ("functions", "ls", "--environment", "local"),
    ("ingest", "/no/such/path"),
)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def test_every_command_has_help_and_a_json_switch() -> None:
    import click

    context = click.Context(dcoder)
    for name in COMMANDS:
        command = dcoder.get_command(context, name)
        assert command is not None
        assert command.help
        leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            assert leaf.help, name
            assert any("--json" in option.opts for option in leaf.params) or name == "generate", leaf.name


def test_help_imports_no_command_and_no_vendor() -> None:
    program = (
        "import sys; from shared.cli.__main__ import main; main(['--help']);"
        "loaded = {name.partition('.')[0] for name in sys.modules} | set(sys.modules);"
        "unwanted = {'asyncio', 'asyncpg', 'boto3', 'fastapi', 'pydantic', 'shared.cli.lifecycle'} & loaded;"
        "sys.exit(', '.join(sorted(unwanted)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Ask the documents a question" in done.stdout


@pytest.mark.parametrize("arguments", NEED_A_STACK, ids=" ".join)
def test_a_command_that_needs_the_stack_says_how_to_start_it(cli: Cli, arguments: tuple[str, ...]) -> None:
    (cli.path.parent / "README.md").write_text("text")
    done = cli.run(*arguments, "--json", cwd=cli.path.parent)
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["fix"] == f"{ROOT / 'dcoder'} up --detach"


@pytest.mark.parametrize("arguments", MISUSES, ids=" ".join)
def test_a_wrong_command_line_exits_with_2_and_says_what_is_wrong(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments", MISUSES, ids=" ".join)
def test_a_wrong_command_line_with_json_prints_one_document(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli.run(*arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize("group", [(), ("key",)], ids=str)
def test_json_without_a_command_asks_for_the_command(cli: Cli, group: tuple[str, ...]) -> None:
    done = cli.run(*group, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "needs a command" in error["message"]
    assert error["fix"] == " ".join(("./dcoder", *group, "--help"))


def test_a_misuse_points_to_the_help_of_its_own_command(cli: Cli) -> None:
    assert "fix: ./dcoder key rotate --help" in cli.run("key", "rotate", "--sideways").stderr


@pytest.mark.parametrize("arguments", [("status",), ("up", "--detach"), ("doctor",)], ids=" ".join)
def test_a_home_that_is_no_directory_is_a_missing_prerequisite(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "home").write_text("a file")
    done = Cli(tmp_path / "home").run(*arguments, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (3, "prerequisite_missing")
    assert "DCODER_HOME=" in error["fix"]
    assert "Traceback" not in done.stderr


def test_doctor_names_a_lost_key_beside_the_data_it_sealed(cli: Cli) -> None:
    cli.home.prepare()
    ensure_keys(cli.home)
    store_secrets(cli.home)
    (cli.home.data / "postgres" / "data").mkdir(parents=True)
    (cli.home.secrets / "root.key").unlink()
    findings = {row["name"]: row for row in json.loads(cli.run("doctor", "--json").stdout)["findings"]}
    assert findings["secrets"]["detail"] == "missing: root.key"
    assert "dcoder down --wipe" in findings["secrets"]["fix"]


def test_a_name_that_the_store_does_not_take_is_told_on_one_line(tmp_path: Path) -> None:
    rows = unusable({"notes/good.md": tmp_path, "notes/two\nlines.md": tmp_path})
    assert list(rows) == ["notes/two\nlines.md"]
    assert ingested_text({"documents": list(rows.values())}).startswith("rejected     'notes/two\\nlines.md'")


def test_status_names_a_command_that_can_be_typed(cli: Cli) -> None:
    assert "Start it with: ./dcoder up" in cli.run("status").stdout


def test_status_and_down_are_done_when_nothing_runs(cli: Cli) -> None:
    assert cli.json("status")["running"] is False
    assert cli.json("down")["stopped"] is False


def test_doctor_fails_without_a_host_and_names_the_fix(cli: Cli) -> None:
    done = cli.run("doctor", "--json")
    assert done.returncode == 1
    findings = {row["name"]: row for row in json.loads(done.stdout)["findings"]}
    assert findings["host"] == {
        "name": "host",
        "well": False,
        "detail": f"not running on {cli.path}",
        "fix": "./dcoder up --detach",
    }


def test_functions_are_listed_with_what_starts_them(cli: Cli) -> None:
    listed = cli.json("functions", "ls")["functions"]
    triggers = [operation["trigger"] for one in listed for operation in one["operations"]]
    assert "POST /v1/tenants" in triggers
    assert any(trigger.startswith("every ") for trigger in triggers)


def test_a_folders_files_are_named_by_their_path_and_hidden_ones_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.md", "deep/b.pdf", ".hidden"):
        (folder / name).write_text("x")
    (tmp_path / "c.txt").write_text("x")
    assert set(named_files([folder, tmp_path / "c.txt"])) == {"handbook/a.md", "handbook/deep/b.pdf", "c.txt"}


def test_an_empty_folder_is_a_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misused, match="no file"):
        named_files([tmp_path])


def test_a_new_function_is_written_with_its_test_and_never_over_another(tmp_path: Path) -> None:
    created = scaffold(tmp_path, "lab", "hello")
    assert "functions/lab/hello/function.py" in created
    assert "tests/functions/lab/test_hello.py" in created
    compile((tmp_path / "functions/lab/hello/function.py").read_text(), "function.py", "exec")
    with pytest.raises(Failed, match="exists"):
        scaffold(tmp_path, "lab", "hello")


def test_a_tenants_function_is_tested_from_where_its_folder_is(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("functions", "new", "--own", "rates", cwd=tmp_path).returncode == 0
    done = cli.run("test", "rates", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout
    one = "rates/test_rates.py::test_a_caller_is_greeted_by_name"
    assert cli.run("test", one, "-q", "-p", "no:cacheprovider", cwd=tmp_path).returncode == 0


def test_an_answer_is_printed_with_where_each_quote_stands() -> None:
    citation = {"document": "a.pdf", "quote": "kept\n apart", "start": 5, "end": 15, "page": 2}
    lines = answer_lines({"question": "Q?", "answer": "Yes.", "citations": [citation]})
    assert lines[1:] == ["Q  Q?", "A  Yes.", "   [1] a.pdf, page 2, characters 5–15", "       “kept apart”"][0:4]


def test_every_progress_event_renders() -> None:
    details = dict.fromkeys(("name", "seconds", "wanted", "port", "why", "after_s", "text"), "x")
    assert all("x" in progress_line(event, details) for event in set(LINES) - {"stopping", "down", "replanning"})
    assert progress_line("unknown", {}) == ""


def test_a_table_aligns_its_columns() -> None:
    assert table([["a", 1], ["long", 22]], head=["name", "n"]) == "name  n\na     1\nlong  22"


@pytest.mark.parametrize(
    ("fix", "there", "elsewhere"),
    [
        (
            "dcoder status, then dcoder up",
            "./dcoder status, then ./dcoder up",
            "/opt/d/dcoder status, then /opt/d/dcoder up",
        ),
        ("rm -r .venv, then ./dcoder up", "rm -r .venv, then ./dcoder up", "rm -r .venv, then ./dcoder up"),
        ("check /srv/dcoder by hand", "check /srv/dcoder by hand", "check /srv/dcoder by hand"),
    ],
)
def test_a_fix_can_be_typed_where_one_stands(
    fix: str, there: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCODER_LAUNCHER", str(tmp_path / "dcoder"))
    assert typed(fix) == there
    monkeypatch.setenv("DCODER_LAUNCHER", "/opt/d/dcoder")
    assert typed(fix) == elsewhere
    monkeypatch.delenv("DCODER_LAUNCHER")
    assert typed(fix) == fix
