"""The files of a function as one archive: a zip of stored text files, the same bytes for the same files.

What is read is packed again and must give the very same bytes. So an archive has no links, modes, comments, second
entries of a name, bytes before or between its files, or anything else that two programs could read differently.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.errors import Invalid, TooLarge

ARCHIVE_BYTES_MAX = 256 * 1024
"""What travels in one ConfigMap, of at most 1 MiB, with room for kubectl's own copy."""
FILES_MAX = 64
DEPTH_MAX = 4
PATH_CHARS_MAX = 120
PATH = re.compile(r"(?:[a-z_][a-z0-9_]*/)*[a-z_][a-z0-9_]*\.(?:py|sql|json|csv|txt|md)")
PATH_RULE = "lower-case letters, digits and underscores, ending in .py, .sql, .json, .csv, .txt or .md"
LEFT_BEHIND = re.compile(r"(^|/)(test_[^/]*|conftest\.py|__pycache__/.*|\.[^/]*(/.*)?)$")
"""What stays in the folder: tests, caches and hidden files."""
MOMENT = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can tell: when a file was last changed is nothing of the function."""
UNIX, PLAIN_FILE = 3, 0o100644 << 16


def files_of(folder: Path) -> dict[str, bytes]:
    """What of the folder belongs to the function. Raises `Invalid` for what cannot be packed, `TooLarge`."""
    found: dict[str, bytes] = {}
    for path, name in walked(folder):
        if path.is_symlink() or not path.is_file():
            raise Invalid(f"{name} is no plain file; a bundle holds plain files only")
        found[name] = path.read_bytes() if path.stat().st_size <= ARCHIVE_BYTES_MAX else too_large(name)
        check_count(len(found))
    check_files(found)
    return found


def walked(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            not LEFT_BEHIND.search(name)
            and "/__pycache__" not in f"/{name}"
            and (path.is_symlink() or not path.is_dir())
        ):
            yield path, name


def too_large(name: str) -> bytes:
    raise TooLarge(f"{name} alone is over the {ARCHIVE_BYTES_MAX} bytes that a bundle may have")


def check_count(count: int) -> None:
    if count > FILES_MAX:
        raise TooLarge(f"a bundle has at most {FILES_MAX} files")


def check_files(files: Mapping[str, bytes]) -> None:
    """Raises `Invalid` naming the first path that breaks the rules, or the file that is not text."""
    check_count(len(files))
    if "function.py" not in files:
        raise Invalid("there is no function.py, which declares the function")
    for path, content in files.items():
        if len(path) > PATH_CHARS_MAX or path.count("/") >= DEPTH_MAX or not PATH.fullmatch(path):
            raise Invalid(f"{path[:PATH_CHARS_MAX]!r} is no path of a bundle: {PATH_RULE}, at most {DEPTH_MAX} deep")
        try:
            content.decode()
        except UnicodeDecodeError as flaw:
            raise Invalid(f"{path} is not UTF-8 text") from flaw


def packed(files: Mapping[str, bytes]) -> bytes:
    """The archive of these files. Raises `Invalid` or `TooLarge`."""
    check_files(files)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, MOMENT)
            entry.create_system, entry.external_attr = UNIX, PLAIN_FILE
            archive.writestr(entry, files[path])
    made = target.getvalue()
    check_size(made)
    return made


def check_size(archive: bytes) -> None:
    if len(archive) > ARCHIVE_BYTES_MAX:
        raise TooLarge(f"the bundle has {len(archive)} bytes; at most {ARCHIVE_BYTES_MAX} are taken")


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of an archive that `packed` made. Raises `Invalid` for any other, `TooLarge`."""
    check_size(archive)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as source:
            entries = source.infolist()
            check_count(len(entries))
            if any(one.compress_type != zipfile.ZIP_STORED or one.file_size > len(archive) for one in entries):
                raise Invalid("the bundle is compressed; `dcoder functions deploy` makes one that is not")
            files = {one.filename: source.read(one) for one in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError) as flaw:
        raise Invalid("the bundle is no zip that can be read") from flaw
    if packed(files) != archive:
        raise Invalid("the bundle is not as `dcoder functions deploy` makes one")
    return files
