"""The archive: the same bytes for the same files, and nothing that two programs could read differently."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bundles import archive
from shared.bundles.archive import ARCHIVE_BYTES_MAX, FILES_MAX, files_of, packed, unpacked
from shared.errors import Invalid, Refusal, TooLarge
from tests.shared.bundles.rates import files, written

NAMES = st.from_regex(r"([a-z_][a-z0-9_]{0,5}/){0,3}[a-z_][a-z0-9_]{0,5}\.(py|sql|txt)", fullmatch=True)
BAD_PATHS = [
    "/etc/passwd.py", "../up.py", "a/../../up.py", "./a.py", "a//b.py", "A.py", "a.pth", "a.so", "a b.py", "a\\b.py",
    "a.py/", "é.py", "a/b/c/d/e.py", "x" * 120 + ".py", "a\x00.py", "", "a.py\n",
]  # fmt: skip


def rewritten(change: Callable[[zipfile.ZipInfo], None], content: bytes = b"x = 1\n") -> bytes:
    """An archive with one more entry that `change` tampers with."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as source:
        for path, text in sorted(files().items()):
            source.writestr(zipfile.ZipInfo(path, archive.MOMENT), text)
        entry = zipfile.ZipInfo("zz.py", archive.MOMENT)
        change(entry)
        source.writestr(entry, content)
    return target.getvalue()


def as_link(entry: zipfile.ZipInfo) -> None:
    entry.create_system, entry.external_attr = 3, 0o120777 << 16


def as_twin(entry: zipfile.ZipInfo) -> None:
    entry.filename = "function.py"


def compressed(entry: zipfile.ZipInfo) -> None:
    entry.compress_type = zipfile.ZIP_DEFLATED


def commented(entry: zipfile.ZipInfo) -> None:
    entry.comment = b"hidden"


def upwards(entry: zipfile.ZipInfo) -> None:
    entry.filename = "../zz.py"


TAMPERINGS = [as_link, as_twin, compressed, commented, upwards]


@given(st.dictionaries(NAMES, st.text(max_size=200), max_size=8))
def test_what_is_packed_is_what_is_unpacked(texts: dict[str, str]) -> None:
    wanted = {**{path: text.encode() for path, text in texts.items()}, "function.py": b"x"}
    assert unpacked(packed(wanted)) == wanted


def test_the_same_files_are_the_same_bytes_in_any_order_and_at_any_time(tmp_path: Path) -> None:
    first = written(tmp_path)
    before = packed(files_of(first))
    for path in first.iterdir():
        os.utime(path, (1, 1))
    assert packed(files_of(first)) == before == packed(dict(reversed(files().items())))


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
def test_a_path_that_could_mean_another_place_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        packed({**files(), path: b"x"})


@pytest.mark.parametrize("change", TAMPERINGS, ids=lambda one: one.__name__)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_something_hidden_in_it_is_refused(change: Callable[[zipfile.ZipInfo], None]) -> None:
    with pytest.raises(Refusal):
        unpacked(rewritten(change))


def test_a_zip_bomb_is_refused_before_it_is_read() -> None:
    bomb = rewritten(compressed, b"0" * 200_000_000)
    assert len(bomb) < ARCHIVE_BYTES_MAX
    with pytest.raises(Invalid, match="compressed"):
        unpacked(bomb)


@pytest.mark.parametrize("position", [0, 1, 30, 200, -30, -1])
def test_an_archive_of_which_one_byte_changed_is_refused_or_has_other_files(position: int) -> None:
    whole = bytearray(packed(files()))
    whole[position] ^= 0xFF
    try:
        assert unpacked(bytes(whole)) != files()
    except Refusal:
        return


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip", b"\x00" * 100], ids=ascii)
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        unpacked(content)


@pytest.mark.parametrize("around", [(b"#!/bin/sh\n", b""), (b"", b"more")], ids=["before", "after"])
def test_bytes_around_an_archive_are_refused(around: tuple[bytes, bytes]) -> None:
    with pytest.raises(Invalid):
        unpacked(around[0] + packed(files()) + around[1])


def test_too_many_files_and_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLarge, match=str(FILES_MAX)):
        packed({**files(), **{f"m{number}.py": b"" for number in range(FILES_MAX)}})
    with pytest.raises(TooLarge, match=str(ARCHIVE_BYTES_MAX)):
        packed({**files(), "big.txt": b"0" * ARCHIVE_BYTES_MAX})


def test_tests_caches_and_hidden_files_stay_behind(tmp_path: Path) -> None:
    folder = written(tmp_path)
    for name in ("test_function.py", "conftest.py", ".env", "__pycache__/function.cpython-311.pyc", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\xff")
    assert files_of(folder) == files()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "secrets.txt").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match=r"secrets\.txt"):
        files_of(folder)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "logo.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(Invalid, match=r"logo\.txt is not UTF-8"):
        files_of(folder)


def test_a_folder_without_a_declaration_is_no_function(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"function\.py"):
        packed(files_of(tmp_path))
