"""The platform's own 32-byte keys, each in a file that only its owner may read.

A pod cannot keep that rule: the files of a mounted Secret belong to root, and Knative allows no `fsGroup`, so only mode
0444 lets a process that is not root read them. There the mount is the wall: it exists in this container alone. Such
a file is recognised by what the process cannot have arranged itself: root owns it, nobody but root may write it, and
it lies on a read-only mount.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import Fault

if TYPE_CHECKING:
    from shared.settings import Settings

KEY_BYTES = 32
ROOT = 0


def read_key(settings: Settings, name: str) -> bytes:
    """The key in `<secrets_dir>/<name>.key`. Raises `Fault` when it is absent, readable by others, or not 32 bytes."""
    path = settings.secrets_dir / f"{name}.key"
    try:
        found, read_only = path.stat(), on_read_only_mount(path)
        key = path.read_bytes()
    except OSError as failure:
        raise Fault(f"cannot read the key file {path}: {failure.strerror}. `dcoder up` creates it") from failure
    mode = stat.S_IMODE(found.st_mode)
    if not is_private(mode) and not is_mounted_secret(mode, found.st_uid, read_only=read_only, user=os.geteuid()):
        raise Fault(f"{path} has mode {mode:o}; others may read it. Run: chmod 600 {path}")
    if len(key) != KEY_BYTES:
        raise Fault(f"{path} holds {len(key)} bytes; a key has {KEY_BYTES}")
    return key


def is_private(mode: int) -> bool:
    """Whether nobody but the owner may do anything with the file."""
    return mode & 0o077 == 0


def is_mounted_secret(mode: int, owner: int, *, read_only: bool, user: int) -> bool:
    """Whether the file is one of a Secret mounted for a process that is not root: see the module."""
    return owner == ROOT != user and read_only and mode & 0o222 & ~0o200 == 0


def on_read_only_mount(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
