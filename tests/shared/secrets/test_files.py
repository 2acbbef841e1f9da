"""Key files: private ones, those of a mounted Secret, and everything that must be refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import Fault
from shared.secrets.files import is_mounted_secret, is_private, read_key
from shared.settings import Settings
from tests.fixtures.servers import scratch_directory

NOBODY = 65532
READ = """
import sys
from pathlib import Path
from shared.errors import Fault
from shared.secrets import read_key
class Where: secrets_dir = Path(sys.argv[1])
try:
    print(len(read_key(Where, "root")))
except Fault as refused:
    print(refused.detail)
"""


def test_a_private_file_is_read(settings: Settings) -> None:
    assert len(read_key(settings, "root")) == 32


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_touch_is_refused_with_the_command_that_fixes_it(
    settings: Settings, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "root.key"
    path.write_bytes(b"x" * 32)
    path.chmod(mode)

    with pytest.raises(Fault, match=f"mode {mode:o}; others may read it. Run: chmod 600 {path}"):
        read_key(replace(settings, secrets_dir=tmp_path), "root")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_refused(settings: Settings, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "root.key"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(Fault, match="a key has 32"):
        read_key(replace(settings, secrets_dir=tmp_path), "root")


def test_only_a_secret_mounted_by_root_for_somebody_else_may_be_readable() -> None:
    for mode in (0o444, 0o440, 0o644):
        assert not is_private(mode)
        assert is_mounted_secret(mode, 0, read_only=True, user=NOBODY)
        assert not is_mounted_secret(mode, 0, read_only=True, user=0), "root needs no such mode"
        assert not is_mounted_secret(mode, NOBODY, read_only=True, user=NOBODY), "its own file it could make private"
        assert not is_mounted_secret(mode, 1000, read_only=True, user=NOBODY)
        assert not is_mounted_secret(mode, 0, read_only=False, user=NOBODY)
    for mode in (0o446, 0o464, 0o666):
        assert not is_mounted_secret(mode, 0, read_only=True, user=NOBODY)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None,
    reason="mounts a folder read-only and drops root: needs root, unshare and setpriv",
)
@pytest.mark.parametrize(("option", "said"), [("ro", "32"), ("rw", "others may read it")])
def test_a_process_without_root_reads_roots_keys_from_a_read_only_mount_only(option: str, said: str) -> None:
    with scratch_directory() as folder:
        folder.chmod(0o755)
        keys = folder / "keys"
        keys.mkdir()
        (keys / "root.key").write_bytes(b"x" * 32)
        (keys / "root.key").chmod(0o444)
        capability = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"  # the interpreter may be private
        script = (
            f"mount --bind {keys} {keys} && mount -o remount,bind,{option} {keys} && "
            f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {capability} "
            f'{sys.executable} -c "$0" {keys}'
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, READ], capture_output=True, text=True, check=False
        )
    assert said in done.stdout, done.stderr
