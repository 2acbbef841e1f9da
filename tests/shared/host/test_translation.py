"""The translator's packages: put into their place whole, by whoever is first."""

from __future__ import annotations

from pathlib import Path

from shared.host.translation import keep


def made(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "litellm.py").write_text(text)
    return folder


def test_the_first_one_stays_and_the_second_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "translate-new"

    keep(made(tmp_path / "translate-new.1", "first"), place)
    keep(made(tmp_path / "translate-new.2", "second"), place)

    assert [path.name for path in tmp_path.iterdir()] == ["translate-new"]
    assert (place / "litellm.py").read_text() == "first"


def test_those_of_older_locks_go_and_what_another_process_makes_stays(tmp_path: Path) -> None:
    made(tmp_path / "translate-old", "older")
    made(tmp_path / "translate-new.2", "in the making")

    keep(made(tmp_path / "translate-new.1", "first"), tmp_path / "translate-new")

    assert {path.name for path in tmp_path.iterdir()} == {"translate-new", "translate-new.2"}
