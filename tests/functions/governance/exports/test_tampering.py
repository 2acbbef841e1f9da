"""Every change of an export is found and named: bytes, entries, the manifest, its signature, the archive itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.audit.checkpoint import AuditSigner, Checkpoint
from shared.tenancy.export import ArchiveVerdict, verify_archive
from shared.tenancy.export.archive import Member, header, members, padding
from shared.tenancy.export.manifest import origin_of

STRANGER = AuditSigner(bytes(range(32)))
CHUNKS, VECTORS, OBJECT = "database/chunks.jsonl", "database/chunk_vectors.jsonl", "objects/000000004"
END = bytes(1024)


@dataclass(frozen=True)
class Part:
    """An entry with its header and what fills its last block up."""

    path: str
    data: bytes
    modified: int

    @property
    def raw(self) -> bytes:
        return header(self.path, len(self.data), self.modified) + self.data + bytes(padding(len(self.data)))


Parts = list[Part]


@pytest.fixture(scope="module")
def whole(archive: Path) -> bytes:
    return archive.read_bytes()


def parts_of(whole: bytes) -> Parts:
    return [Part(one.path, whole[one.start : one.start + one.size], one.modified) for one in members(io.BytesIO(whole))]


def place(parts: Parts, path: str) -> int:
    return [one.path for one in parts].index(path)


def joined(parts: Parts) -> bytes:
    return b"".join(one.raw for one in parts) + END


def verdict(data: bytes, folder: Path, *, public_key: bytes | None = None) -> ArchiveVerdict:
    path = folder / "damaged.tar"
    path.write_bytes(data)
    return verify_archive(path, public_key=public_key)


def edited(path: str) -> Callable[[Parts], Parts]:
    def edit(parts: Parts) -> Parts:
        at = place(parts, path)
        data = bytearray(parts[at].data)
        data[len(data) // 2] ^= 1
        return [*parts[:at], Part(path, bytes(data), parts[at].modified), *parts[at + 1 :]]

    return edit


def longer(path: str) -> Callable[[Parts], Parts]:
    return lambda parts: [
        Part(one.path, one.data + b"{}\n", one.modified) if one.path == path else one for one in parts
    ]


def without(path: str) -> Callable[[Parts], Parts]:
    return lambda parts: [one for one in parts if one.path != path]


def inserted(path: str, before: str) -> Callable[[Parts], Parts]:
    return lambda parts: [
        *parts[: place(parts, before)],
        Part(path, b"x", parts[0].modified),
        *parts[place(parts, before) :],
    ]


def swapped(one: str, other: str) -> Callable[[Parts], Parts]:
    def swap(parts: Parts) -> Parts:
        found = list(parts)
        here, there = place(parts, one), place(parts, other)
        found[here], found[there] = found[there], found[here]
        return found

    return swap


def exchanged(one: str, other: str) -> Callable[[Parts], Parts]:
    """Two entries keep their names and places and take each other's bytes."""

    def exchange(parts: Parts) -> Parts:
        data = {path: parts[place(parts, path)].data for path in (one, other)}
        data[one], data[other] = data[other], data[one]
        return [Part(part.path, data.get(part.path, part.data), part.modified) for part in parts]

    return exchange


def touched(path: str) -> Callable[[Parts], Parts]:
    return lambda parts: [Part(one.path, one.data, one.modified + 1) if one.path == path else one for one in parts]


def consistent(parts: Parts) -> Parts:
    """A row is changed and the manifest's hash with it; only the signature cannot be made again."""
    changed = edited(CHUNKS)(parts)
    old, new = (hashlib.sha256(one[place(one, CHUNKS)].data).hexdigest().encode() for one in (parts, changed))
    return [Part(one.path, one.data.replace(old, new), one.modified) for one in changed]


@pytest.mark.parametrize(
    ("change", "first_bad", "why"),
    [
        (edited("export.json"), "export.json", "was altered"),
        (edited(CHUNKS), CHUNKS, "was altered"),
        (edited(OBJECT), OBJECT, "was altered"),
        (edited("control/usage_ledger.jsonl"), "control/usage_ledger.jsonl", "was altered"),
        (edited("audit.jsonl"), "audit.jsonl", "was altered"),
        (edited("manifest.jsonl"), "manifest.jsonl", ""),
        (edited("manifest.sig"), "manifest.sig", "cannot be trusted"),
        (longer(CHUNKS), CHUNKS, "was altered"),
        (longer("manifest.jsonl"), "manifest.jsonl", "was altered"),
        (longer("manifest.sig"), "manifest.sig", "cannot be trusted"),
        (touched(CHUNKS), CHUNKS, "another time"),
        (without("export.json"), "export.json", "is missing"),
        (without(CHUNKS), CHUNKS, "is missing"),
        (without("objects/000000009"), "objects/000000009", "is missing"),
        (without("manifest.jsonl"), "manifest.jsonl", "is missing"),
        (without("manifest.sig"), "manifest.sig", "is missing"),
        (inserted("objects/000000099", CHUNKS), "objects/000000099", "was inserted"),
        (inserted("objects/000000099", "manifest.jsonl"), "objects/000000099", "was inserted"),
        (inserted(CHUNKS, OBJECT), OBJECT, "was moved"),
        (inserted("x", "manifest.sig"), "manifest.jsonl", "inserted or moved"),
        (lambda parts: [*parts, Part("x", b"", parts[0].modified)], "x", "was inserted"),
        (swapped(CHUNKS, VECTORS), VECTORS, "was moved"),
        (swapped("objects/000000001", OBJECT), "objects/000000001", "was moved"),
        (swapped("manifest.jsonl", "manifest.sig"), "manifest.sig", "is missing"),
        (exchanged("objects/000000006", "objects/000000007"), "objects/000000006", "was altered"),
        (consistent, "manifest.jsonl", "was altered"),
        (lambda parts: [], "manifest.jsonl", "is missing"),
    ],
)  # fmt: skip
def test_a_changed_archive_is_refused_and_the_first_bad_entry_named(
    change: Callable[[Parts], Parts], first_bad: str, why: str, whole: bytes, tmp_path: Path
) -> None:
    parts = parts_of(whole)
    assert joined(parts) == whole
    found = verdict(joined(change(parts)), tmp_path)
    assert (found.ok, found.first_bad) == (False, first_bad), found.message
    assert why in found.message


@pytest.mark.parametrize(
    "name", [CHUNKS, OBJECT, "control/tenants.jsonl", "export.json", "manifest.jsonl", "manifest.sig"]
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "before"])
def test_a_cut_archive_names_what_is_missing(name: str, inside: bool, whole: bytes, tmp_path: Path) -> None:
    member = next(one for one in members(io.BytesIO(whole)) if one.path == name)
    found = verdict(whole[: member.start + member.size // 2 if inside else member.start - 512], tmp_path)
    assert not found.ok
    assert "the archive ends" in found.message
    assert found.message.endswith("manifest.sig") or " more" in found.message
    unknown = not inside and name in (OBJECT, "manifest.jsonl")  # how many objects there were, nothing says
    assert found.first_bad == ("objects/…" if unknown else name)
    assert str(found.first_bad) in found.message


@pytest.mark.parametrize("cut", [1, 512, 1023, 1024])
def test_an_end_that_is_cut_off_is_found(cut: int, whole: bytes, tmp_path: Path) -> None:
    found = verdict(whole[:-cut], tmp_path)
    assert not found.ok
    assert found.message.startswith("the archive")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_the_archive_can_change(data: st.DataObject, whole: bytes, tmp_path: Path) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    assert not verdict(bytes(damaged), tmp_path).ok


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_length_but_its_own_is_whole(data: st.DataObject, whole: bytes, tmp_path: Path) -> None:
    assert not verdict(whole[: data.draw(st.integers(0, len(whole) - 1))], tmp_path).ok
    assert not verdict(whole + bytes(data.draw(st.integers(1, 2000))), tmp_path).ok


def resigned(parts: Parts, signer: AuditSigner, tenant: str) -> Parts:
    """The manifest names the signer's key and is signed with it."""
    head, _, rest = parts[-2].data.partition(b"\n")
    first = {**json.loads(head), "public_key": base64.b64encode(signer.public_key).decode()}
    manifest = json.dumps(first).encode() + b"\n" + rest
    lines = manifest.count(b"\n")
    note = signer.sign(Checkpoint(origin_of(tenant), lines, hashlib.sha256(manifest).digest()))
    kept = [(one.path, one.data) for one in parts[:-2]]
    return [
        Part(path, data, parts[0].modified)
        for path, data in (*kept, ("manifest.jsonl", manifest), ("manifest.sig", note.encode()))
    ]


def test_an_archive_signed_by_another_key_is_refused(whole: bytes, signer: AuditSigner, tmp_path: Path) -> None:
    tenant = verdict(whole, tmp_path).tenant
    forged = joined(resigned(parts_of(whole), STRANGER, tenant))
    found = verdict(forged, tmp_path, public_key=signer.public_key)
    assert (found.ok, found.first_bad) == (False, "manifest.jsonl")
    assert found.message == "the export names another public key than the one you trust"
    named = verdict(forged, tmp_path)
    assert (named.ok, named.first_bad) == (False, "audit.jsonl")  # the log in it is still signed by the platform
    assert not verdict(whole, tmp_path, public_key=STRANGER.public_key).ok


def test_an_audit_checkpoint_is_no_signature_of_an_export(whole: bytes, signer: AuditSigner, tmp_path: Path) -> None:
    parts = parts_of(whole)
    tenant = verdict(whole, tmp_path).tenant
    root = hashlib.sha256(parts[-2].data).digest()
    note = signer.sign(Checkpoint(f"dcoder/audit/{tenant}", parts[-2].data.count(b"\n"), root))
    found = verdict(joined([*parts[:-1], Part("manifest.sig", note.encode(), parts[0].modified)]), tmp_path)
    assert (found.ok, found.first_bad) == (False, "manifest.sig")


def trick(name: str, **values: object) -> bytes:
    """A header that tar programs follow."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o600, 1_700_000_000
    for field, value in values.items():
        setattr(info, field, value)
    return info.tobuf(format=tarfile.PAX_FORMAT if "pax_headers" in values else tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "raw",
    [
        trick("/etc/passwd"),
        trick("../up"),
        trick("database/../../up"),
        trick("objects/1", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        trick("objects/1", type=tarfile.LNKTYPE, linkname="export.json"),
        trick("objects/1", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        trick("objects/1", type=tarfile.FIFOTYPE),
        trick("objects", type=tarfile.DIRTYPE),
        trick("objects/1", type=tarfile.GNUTYPE_SPARSE),
        trick("o" * 150),
        trick("objects/1", pax_headers={"path": "../up"}),
        trick("objects/1", mode=0o4755),
        trick("objects/1", uname="root"),
        trick("objects/1", size=-512),
        trick("objects/1", size=2**60),
        trick("objects/1", mtime=-1),
        b"\xff" * 512,
        bytes(511) + b"\1",
    ],
)
@pytest.mark.parametrize("before", ["export.json", CHUNKS, "manifest.jsonl"])
def test_what_no_export_writes_is_refused_without_following_it(
    raw: bytes, before: str, whole: bytes, tmp_path: Path
) -> None:
    member = next(one for one in members(io.BytesIO(whole)) if one.path == before)
    at = member.start - 512
    assert not verdict(whole[:at] + raw + whole[at:], tmp_path).ok
    assert [one.name for one in tmp_path.iterdir()] == ["damaged.tar"]


def test_a_huge_entry_that_is_signed_for_is_never_held(tmp_path: Path) -> None:
    """A sparse file of 40 GiB: its headers are walked, its bytes are not read for want of a manifest."""
    path, size = tmp_path / "huge.tar", 40 * 2**30
    with path.open("wb") as file:
        file.write(header("objects/000000001", size, 0))
        file.seek(size, io.SEEK_CUR)
        file.write(END)
        file.truncate(512 + size + len(END))
    found = verify_archive(path)
    assert (found.ok, found.first_bad) == (False, "manifest.jsonl")


@pytest.mark.parametrize("line", [b"[]", b"{", b'{"kind":"table"}', b'{"kind":"table","path":7,"sha256":"x"}', b"7"])
def test_a_manifest_signed_by_whomever_is_a_verdict_and_never_a_crash(
    line: bytes, whole: bytes, signer: AuditSigner, tmp_path: Path
) -> None:
    parts = parts_of(whole)
    head, _, rest = parts[-2].data.partition(b"\n")
    parts[-2] = Part("manifest.jsonl", head + b"\n" + line + b"\n" + rest, parts[0].modified)
    assert not verdict(joined(resigned(parts, signer, verdict(whole, tmp_path).tenant)), tmp_path).ok


@pytest.mark.parametrize("data", [b"", b"\0", bytes(1024), b"hello", bytes(512)])
def test_a_file_that_is_no_archive_is_a_verdict(data: bytes, tmp_path: Path) -> None:
    assert not verdict(data, tmp_path).ok


def test_a_header_is_what_it_says() -> None:
    found = list(members(io.BytesIO(header("a", 3, 5) + b"abc" + bytes(509) + END)))
    assert found == [Member("a", 512, 3, 5)]
