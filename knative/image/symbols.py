"""Shared libraries without what only debuggers and linkers read: a fifth of the image.

Wheels are often shipped with symbol tables and debug sections. These lie behind everything that is loaded, so the file
is cut there and its section table, which points into what is gone, is taken out of the header. Nothing that the loader
reads moves, unlike with `strip`, which may break libraries that auditwheel patched. ELF, 64 bits, little endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM = struct.Struct("<IIQQQQQQ")
WORTH_BYTES_MIN = 64 * 1024


def cut(path: Path) -> int:
    """Cut the library where nothing more is loaded. Returns the bytes saved; 0 leaves the file as it is."""
    with path.open("r+b") as file:
        header = file.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(MAGIC):
            return 0
        fields = list(HEADER.unpack(header))
        table, entry_size, entries = fields[5], fields[9], fields[10]
        ends = [table + entry_size * entries]
        for number in range(entries):
            file.seek(table + entry_size * number)
            segment = PROGRAM.unpack(file.read(PROGRAM.size))
            ends.append(segment[2] + segment[5])  # offset and size in the file
        saved: int = path.stat().st_size - max(ends)
        if saved < WORTH_BYTES_MIN:
            return 0
        fields[6] = fields[12] = fields[13] = 0  # section table: offset, entries, names
        file.seek(0)
        file.write(HEADER.pack(*fields))
        file.truncate(max(ends))
        return saved


def cut_all(tree: Path) -> None:
    for path in sorted(tree.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            cut(path)
