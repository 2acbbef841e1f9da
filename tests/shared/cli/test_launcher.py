"""`./dcoder` with the standard library only: which Python, which lock, and one builder at a time.

The environment itself is built by every first `./dcoder up`; here installing is replaced by a note of it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shared.host.stack import ROOT


@pytest.fixture
def launcher(tmp_path: Path) -> ModuleType:
    """The launcher as a module, on a copy of the locks. Its `install` only counts how often it ran."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "dcoder", tmp_path / "dcoder")
    loader = importlib.machinery.SourceFileLoader("launcher", str(tmp_path / "dcoder"))
    spec = importlib.util.spec_from_loader("launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    installed: list[str] = []
    module.__dict__.update(install=installed.append, installed=installed)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return module


def test_the_environment_is_made_once(launcher: ModuleType) -> None:
    launcher.ensure_environment("local")
    launcher.ensure_environment("local")
    assert launcher.installed == ["local"]


def test_the_test_environment_serves_the_other_commands_too(launcher: ModuleType) -> None:
    launcher.ensure_environment("dev")
    launcher.ensure_environment("local")
    assert launcher.installed == ["dev"]


def test_testing_needs_more_than_the_others(launcher: ModuleType) -> None:
    launcher.ensure_environment("local")
    launcher.ensure_environment("dev")
    assert launcher.installed == ["local", "dev"]


def test_the_tools_for_tests_stay_when_another_command_comes_next(launcher: ModuleType) -> None:
    (Path(launcher.VENV) / "bin" / "pytest").touch()
    assert launcher.has_tests()


def test_a_changed_lock_is_installed(launcher: ModuleType) -> None:
    launcher.ensure_environment("local")
    with open(launcher.lock("local"), "a") as lock:
        lock.write("# changed\n")
    launcher.ensure_environment("local")
    assert launcher.installed == ["local", "local"]


def test_a_build_that_was_killed_is_done_again(launcher: ModuleType) -> None:
    launcher.ensure_environment("local")
    Path(launcher.STAMP).write_text('{"kind": "lo')
    launcher.ensure_environment("local")
    assert launcher.installed == ["local", "local"]


def test_whoever_comes_second_waits_and_finds_the_work_done(launcher: ModuleType) -> None:
    lock = Path(launcher.VENV) / "dcoder.lock"
    with launcher.locked(str(lock)):
        waiting = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(launcher.__file__)], stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        assert "Waiting for another" in waiting.stderr.readline()
        launcher.build("local")
    assert waiting.wait(timeout=20) == 0


PROGRAM = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("launcher", sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("launcher", loader))
loader.exec_module(module)
module.install = lambda wanted: sys.exit("installed although the other had done it")
module.ensure_environment("local")
"""


def old_python(tmp_path: Path) -> dict[str, str]:
    """An environment in which the launcher believes to run on Python 3.9 and finds no other."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.version_info = (3, 9, 0, 'final', 0)")
    return {**os.environ, "PYTHONPATH": str(site), "PATH": str(tmp_path)}


def test_a_python_that_is_too_old_exits_3_with_the_fix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "dcoder"), "up"],
        env=old_python(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "Python 3.9 does not run D.Coder" in done.stderr
    assert "fix: install one" in done.stderr


def test_a_python_that_is_too_old_says_so_in_one_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "dcoder"), "up", "--json"],
        env=old_python(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "prerequisite_missing"


def test_every_locked_package_is_pinned_by_hash_and_no_registry_is_named() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text, lock
        pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert pins
        assert all("==" in pin for pin in pins), lock
        assert text.count("--hash=sha256:") >= len(pins), lock


def versions(name: str) -> dict[str, set[str]]:
    """Versions by package in one lock; several where they depend on the Python."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.lock").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            package, _, version = line.partition("==")
            found.setdefault(package, set()).add(version.split()[0])
    return found


@pytest.mark.parametrize("name", ["runtime", "local"])
def test_the_smaller_locks_have_the_versions_that_are_tested(name: str) -> None:
    tested = versions("dev")
    assert {package for package, found in versions(name).items() if tested.get(package) != found} == set()
