"""The first layer: the Python that runs this, its standard library and the shared libraries that they load.

No shell, no pip, and it needs no registry. What a function never uses stays behind: tests, windows, compilers'
files, installers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from knative.image import symbols
from knative.image.bytecode import compile_beside
from knative.image.contents import IDENTITY
from shared.errors import Fault

NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"
PROGRAM = Path("usr/local/bin") / NAME
LIBRARY = Path("usr/local/lib") / NAME
LEFT_OUT: tuple[str, ...] = (
    "site-packages/*",
    "dist-packages/*",
    "__pycache__/*",
    "*/__pycache__/*",
    "test/*",
    "*/test/*",
    "*/tests/*",
    "config-*",
    "ensurepip/*",
    "venv/*",
    "idlelib/*",
    "lib2to3/*",
    "tkinter/*",
    "turtle.py",
    "turtledemo/*",
    "pydoc_data/*",
    "distutils/*",
    "curses/*",
    *(f"lib-dynload/{name}.*" for name in ("_tkinter", "_curses", "_curses_panel", "readline", "nis", "_crypt")),
    "lib-dynload/_test*",
    "lib-dynload/_xxtest*",
    "lib-dynload/xxlimited*",
    "*.a",
)
OF_THE_SYSTEM = (
    *("libstdc++.so.6", "libgcc_s.so.1", "librt.so.1", "libdl.so.2", "libpthread.so.0", "libutil.so.1"),
    *("libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"),
)
"""Libraries that manylinux wheels take from the system, and those by which it looks names up."""
LOADED = re.compile(r"^\s*(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/nonexistent\nfunction:x:{0}:{1}:function:/tmp:/nonexistent\n",
    "etc/group": "root:x:0:\nfunction:x:{1}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def stage(root: Path) -> None:
    """Write the layer's files below `root`. Raises `Fault`."""
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    put(program, root / PROGRAM)
    for name in ("python3", "python"):
        (root / PROGRAM).with_name(name).symlink_to(NAME)
    copy_library(library, root / LIBRARY)
    modules = sorted((library / "lib-dynload").glob("*.so"))
    copy_libraries([program, *(one for one in modules if not left_out(f"lib-dynload/{one.name}"))], root)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.format(*IDENTITY.split(":")))
    (root / "tmp").mkdir()
    symbols.cut_all(root)
    compile_beside(root, LIBRARY)


def left_out(relative: str) -> bool:
    return any(fnmatchcase(relative, pattern) for pattern in LEFT_OUT)


def copy_library(source: Path, target: Path) -> None:
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder) / name
            relative = path.relative_to(source).as_posix()
            if not left_out(relative):
                put(path, target / relative)


def put(source: Path, target: Path) -> None:
    """Copy a file with its permissions, links followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    shutil.copymode(source, target)


def copy_libraries(programs: Iterable[Path], root: Path) -> None:
    """Every shared library that these programs load, where the image's loader looks: beside the C library."""
    found = dict(item for program in programs for item in loaded(program))
    libc = next((path for name, path in found.items() if name.startswith("libc.so")), None)
    if libc is None:
        raise Fault(f"{NAME} does not load a C library of its own; give the image a base: --base")
    for name in OF_THE_SYSTEM:
        if (libc.parent / name).exists():
            found[name] = libc.parent / name
        elif name in ("libstdc++.so.6", "libgcc_s.so.1"):
            raise Fault(f"{libc.parent / name} is missing, which wheels need; install it (Debian: libstdc++6)")
    for name, path in found.items():
        place = path if name.startswith("ld-") else libc.parent / name
        put(path, root / place.relative_to("/"))


def loaded(program: Path) -> list[tuple[str, Path]]:
    """Names and places of the libraries that the loader finds for the program. Raises `Fault`."""
    listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True)  # noqa: S603, S607  part of libc
    if "not found" in listing.stdout:
        raise Fault(f"{program} misses a library: {listing.stdout.strip()}")
    matches = (LOADED.match(line) for line in listing.stdout.splitlines())
    return [(Path(match["name"] or match["path"]).name, Path(match["path"])) for match in matches if match]
