"""`dcoder deploy`: what it writes, and what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.cli.__main__ import main


def test_check_names_the_file_that_somebody_changed_and_render_repairs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ["deploy", "render", "--environment", "local", "--out", str(tmp_path)]
    assert main(local) == 0
    (tmp_path / "local" / "broker.yaml").write_text("spoiled\n")
    (tmp_path / "local" / "stray.yaml").write_text("stray\n")
    capsys.readouterr()

    assert main([*local, "--check", "--json"]) == 1
    message = json.loads(capsys.readouterr().out)["error"]["message"]

    assert message == "not as the code says: local/broker.yaml, local/stray.yaml"
    assert main(local) == 0
    assert main([*local, "--check"]) == 0


def test_an_unknown_environment_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "diff", "--environment", "mars"]) == 1

    assert "no environment 'mars'. Known: kong, local, pods, production" in capsys.readouterr().err


def test_the_committed_files_do_not_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "diff"]) == 0

    assert capsys.readouterr().out == "no difference\n"
