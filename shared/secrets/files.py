"""The platform's own 32-byte keys, each in a file that only its owner may read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from shared.errors import Fault

if TYPE_CHECKING:
    from shared.settings import Settings

KEY_BYTES = 32


def read_key(settings: Settings, name: str) -> bytes:
    """The key in `<secrets_dir>/<name>.key`. Raises `Fault` when it is absent, readable by others, or not 32 bytes."""
    path = settings.secrets_dir / f"{name}.key"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = path.read_bytes()
    except OSError as failure:
        raise Fault(f"cannot read the key file {path}: {failure.strerror}. `dcoder up` creates it") from failure
    if mode & 0o077:
        raise Fault(f"{path} has mode {mode:o}; others may read it. Run: chmod 600 {path}")
    if len(key) != KEY_BYTES:
        raise Fault(f"{path} holds {len(key)} bytes; a key has {KEY_BYTES}")
    return key
