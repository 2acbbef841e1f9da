"""The state directory: where it is, what is private, what is never made anew."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from shared.errors import Conflict, Fault
from shared.host.home import KEY_NAMES, Home, ensure_keys, find_home, store_secrets


def ensure_all(home: Home) -> None:
    ensure_keys(home)
    store_secrets(home)


def test_the_home_is_the_variable_then_the_xdg_state_directory_then_the_users() -> None:
    assert find_home({"DCODER_HOME": "/somewhere"}).path == Path("/somewhere")
    assert find_home({"XDG_STATE_HOME": "/state"}).path == Path("/state/dcoder")
    assert find_home({}).path == Path("~/.local/state/dcoder").expanduser()


def test_keys_are_private_and_the_same_the_second_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    ensure_keys(home)
    before = {name: (home.secrets / f"{name}.key").read_bytes() for name in KEY_NAMES}
    ensure_keys(home)
    assert before == {name: (home.secrets / f"{name}.key").read_bytes() for name in KEY_NAMES}
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    assert all(len(key) == 32 for key in before.values())


def test_passwords_are_private_and_the_same_the_second_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert store_secrets(home) == store_secrets(home)
    assert stat.S_IMODE((home.secrets / "stores.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("lost", ["root.key", "stores.json"])
def test_a_secret_that_data_was_sealed_with_is_not_made_anew(tmp_path: Path, lost: str) -> None:
    home = Home(tmp_path)
    home.prepare()
    ensure_keys(home)
    store_secrets(home)
    (home.data / "postgres" / "data").mkdir(parents=True)
    (home.secrets / lost).unlink()
    with pytest.raises(Fault, match="Restore"):
        ensure_all(home)


def test_a_home_has_one_host_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock(), pytest.raises(Conflict, match="another host"), Home(tmp_path).lock():
        pass


def test_wiping_leaves_files_that_are_not_ours(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.path / "mine.txt").write_text("mine")
    home.wipe()
    assert [path.name for path in home.path.iterdir()] == ["mine.txt"]


def test_wiping_removes_an_emptied_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.path / "cache").mkdir()
    (home.path / "cache" / "model.onnx").write_bytes(b"built once")
    home.wipe()
    assert not home.path.exists()


def test_a_torn_record_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"pid": 1')
    assert Home(tmp_path).host() is None
