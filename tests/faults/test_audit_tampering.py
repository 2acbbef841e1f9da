"""Whatever is done to an audit log afterwards, the verifier finds it and names the first record that is bad."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.audit.chain import entry
from shared.audit.checkpoint import Checkpoint, origin_of
from shared.audit.merkle import leaf_hash
from tests.shared.audit.logs import OWN, STRANGER, Log, judged, log_of, record_of, text, written

BATCHES = (3, 4, 5)
STARTS = (0, 3, 7)
FIRST, MIDDLE, LAST = 0, 5, 11
everywhere = pytest.mark.parametrize("at", [FIRST, MIDDLE, LAST], ids=["first", "middle", "last"])


@pytest.fixture
def log() -> Log:
    return log_of(*BATCHES)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return tmp_path / "export.jsonl"


def batch_start(at: int) -> int:
    return max(start for start in STARTS if start <= at)


def changed(record: bytes, **members: Any) -> bytes:  # Any: JSON
    import rfc8785

    return rfc8785.dumps(json.loads(record) | members)


def replace_bytes(log: Log, at: int, record: bytes, *, leaf_too: bool = False) -> None:
    row = log.records[at]
    row["record"] = text(record)
    if leaf_too:
        row["leaf"] = text(leaf_hash(entry(base64.b64decode(row["previous"]), row["seq"], record)))


def renumber(log: Log) -> None:
    for seq, row in enumerate(log.records):
        row["seq"] = seq


def stranger_between(log: Log, at: int) -> dict[str, Any]:  # Any: JSON
    """A record that is chained to its predecessor as it should be."""
    previous = base64.b64decode(log.records[at]["previous"])
    record = record_of(900)
    leaf = leaf_hash(entry(previous, at, record))
    return log.records[at] | {"record": text(record), "leaf": text(leaf)}


def edit_payload(log: Log, at: int) -> None:
    replace_bytes(log, at, changed(log.bodies[at], details={"bytes": 999}))


def edit_time(log: Log, at: int) -> None:
    replace_bytes(log, at, changed(log.bodies[at], at="2020-01-01T00:00:00.000000+00:00"))


def edit_actor(log: Log, at: int) -> None:
    replace_bytes(log, at, changed(log.bodies[at], actor="key:other"))


def edit_leaf(log: Log, at: int) -> None:
    log.records[at]["leaf"] = text(bytes(32))


def edit_link(log: Log, at: int) -> None:
    log.records[at]["previous"] = text(bytes([1]) * 32)


def delete_one(log: Log, at: int) -> None:
    del log.records[at]


def delete_range(log: Log, at: int) -> None:
    del log.records[at : at + 3]


def delete_and_renumber(log: Log, at: int) -> None:
    delete_one(log, at)
    renumber(log)


def insert(log: Log, at: int) -> None:
    log.records.insert(at, stranger_between(log, at))


def put_another_tenants(log: Log, at: int) -> None:
    log.records[at] = log_of(*BATCHES, tenant="other").records[at]


def put_the_null_byte_twin(log: Log, at: int) -> None:
    replace_bytes(log, at, log.bodies[at].replace(b"document/", b"document\\u0000/"))


def put_nonsense(log: Log, at: int) -> None:
    log.records[at]["record"] = "no base64!"


@everywhere
@pytest.mark.parametrize(
    "damage",
    [
        *(edit_payload, edit_time, edit_actor, edit_leaf, edit_link, delete_one, delete_range, delete_and_renumber),
        *(put_another_tenants, put_the_null_byte_twin, put_nonsense),
    ],
)
@pytest.mark.parametrize("kept", [True, False], ids=["with kept checkpoints", "without"])
def test_the_damaged_record_is_named(
    damage: Callable[[Log, int], None], at: int, kept: bool, log: Log, export: Path
) -> None:
    trusted = list(log.notes) if kept else []
    damage(log, at)
    verdict = judged(log, export, trusted=trusted)
    assert not verdict.ok
    assert verdict.first_bad == at, verdict.message


@everywhere
def test_a_record_put_in_between_is_found(at: int, log: Log, export: Path) -> None:
    insert(log, at)
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, at if at < LAST else batch_start(at))


@everywhere
@pytest.mark.parametrize(
    "twin",
    [
        b'{"action":"x","action":"documents.upload",',
        b'{"action":-0,',
        b'{"action":1e400,',
        b'{"action":1.0,',
        b'{ "action":"documents.upload",',
        b'{"action":"\\u0064ocuments.upload",',
        b'{"action":' + b"[" * 20_000 + b"],",
        b'{"action":' + b"9" * 5_000 + b",",
        b'{"action":"\xff",',
    ],
    ids=["key twice", "-0", "1e400", "1.0", "space", "escape", "deep", "long number", "not UTF-8"],
)
def test_bytes_that_are_not_canonical_are_named_even_when_all_hashes_fit(
    twin: bytes, at: int, log: Log, export: Path
) -> None:
    bodies = log.bodies
    bodies[at] = bodies[at].replace(b'{"action":"documents.upload",', twin)
    log.notes = []
    log.rechained(bodies)
    verdict = judged(log, export)
    assert not verdict.ok
    assert verdict.first_bad == at
    assert verdict.message == f"record {at} is not canonical: it was not written by the platform"


def test_twins_in_unicode_normalisation_are_different_records(export: Path) -> None:
    log = Log()
    log.seal([record_of(0, name="caf\u00e9")])
    replace_bytes(log, 0, record_of(0, name="cafe\u0301"))
    assert judged(log, export).first_bad == 0


@everywhere
def test_a_record_that_appears_twice_is_named(at: int, log: Log, export: Path) -> None:
    log.records.insert(at, dict(log.records[at]))
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, at + 1)
    assert "a second time" in verdict.message


@everywhere
def test_records_that_changed_places_are_named(at: int, log: Log, export: Path) -> None:
    one, other = (at, at + 1) if at < LAST else (at - 1, at)
    log.records[one], log.records[other] = log.records[other], log.records[one]
    assert judged(log, export).first_bad == one
    renumber(log)
    assert judged(log, export).first_bad == one


@everywhere
def test_an_edit_with_its_own_hash_computed_again_is_found(at: int, log: Log, export: Path) -> None:
    replace_bytes(log, at, changed(log.bodies[at], details={}), leaf_too=True)
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, at if at < LAST else batch_start(at))


@everywhere
def test_a_log_chained_again_without_the_key_is_found_at_the_batch_that_changed(
    at: int, log: Log, export: Path
) -> None:
    bodies = log.bodies
    bodies[at] = changed(bodies[at], details={})
    log.rechained(bodies)
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, batch_start(at))
    assert "the chain computed again" in verdict.message


@everywhere
def test_a_log_chained_and_signed_again_with_the_stolen_key_is_found_by_a_kept_checkpoint(
    at: int, log: Log, export: Path
) -> None:
    kept, bodies = list(log.notes), log.bodies
    bodies[at] = changed(bodies[at], details={})
    forged = Log()
    for start, size in zip(STARTS, BATCHES, strict=True):
        forged.seal(bodies[start : start + size])
    assert judged(forged, export).ok, "without a kept checkpoint the thief of the key cannot be told from the platform"
    verdict = judged(forged, export, trusted=kept)
    assert not verdict.ok
    assert verdict.first_bad is not None
    assert batch_start(at) <= verdict.first_bad < batch_start(at) + 5
    assert "forked" in verdict.message


def test_a_log_signed_again_with_another_key_is_found_by_who_knows_the_key(log: Log, export: Path) -> None:
    forged = log_of(*BATCHES, signer=STRANGER)
    assert judged(forged, export).ok, "an export is whole in itself: whose it is, only a known key can tell"
    assert "another public key" in judged(forged, export, public_key=OWN.public_key).message
    assert "no signature of the expected key" in judged(forged, export, trusted=log.notes[:1]).message


def test_another_key_in_the_header_is_found(log: Log, export: Path) -> None:
    lines = log.lines()
    lines[0]["public_key"] = text(STRANGER.public_key)
    written(lines, export)
    from shared.audit.verify import verify_export

    assert not verify_export(export).ok
    assert not verify_export(export, public_key=OWN.public_key).ok


@pytest.mark.parametrize("left", [0, 1, 3, 7, 9, 11])
def test_a_tail_cut_off_with_its_checkpoints_is_found_by_a_kept_one(left: int, log: Log, export: Path) -> None:
    kept = log.notes[-1:]
    del log.records[left:]
    log.notes = log.notes[: sum(end <= left for end in (3, 7, 12))]
    verdict = judged(log, export, trusted=kept)
    assert (verdict.ok, verdict.first_bad) == (False, left)
    assert verdict.message == f"record {left} is missing: the log ends there, but 12 were signed for"


@pytest.mark.parametrize("left", [1, 9, 11])
def test_a_tail_cut_off_inside_a_batch_is_found_without_any(left: int, log: Log, export: Path) -> None:
    del log.records[left:]
    log.notes = log.notes[: sum(end <= left for end in (3, 7, 12))]
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, batch_start(left))
    assert "covered by no signed checkpoint" in verdict.message


@pytest.mark.parametrize("regrown", [(5,), (2,), (9,)], ids=["to the same size", "shorter", "longer"])
def test_a_log_rolled_back_and_grown_otherwise_is_found_by_a_kept_checkpoint(
    regrown: tuple[int, ...], log: Log, export: Path
) -> None:
    restored = log_of(*BATCHES[:2])
    for size in regrown:
        restored.seal([record_of(500 + number) for number in range(size)])
    assert judged(restored, export).ok
    verdict = judged(restored, export, trusted=log.notes)
    assert not verdict.ok
    assert verdict.first_bad is not None
    assert verdict.first_bad >= 7


def test_a_dropped_log_is_found_by_a_kept_checkpoint(log: Log, export: Path) -> None:
    verdict = judged(Log(), export, trusted=log.notes)
    assert (verdict.ok, verdict.first_bad) == (False, 0)


def test_two_signed_checkpoints_of_one_size_are_a_fork(log: Log, export: Path) -> None:
    other = OWN.sign(Checkpoint(origin_of("acme"), 7, bytes(32)))
    assert judged(log, export, trusted=[other]).message == "two signed checkpoints of size 7 differ: the log was forked"
    log.notes.append(other)
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, 6)


@pytest.mark.parametrize(
    "note",
    [
        log_of(*BATCHES, tenant="other").notes[1],
        log_of(*BATCHES, signer=STRANGER).notes[1],
        log_of(*BATCHES).notes[1].replace("\n7\n", "\n8\n"),
        "",
        "\ud800",
    ],
    ids=["of another tenant", "of another key", "with another size", "empty", "not text"],
)
def test_a_replaced_checkpoint_is_named(note: str, log: Log, export: Path) -> None:
    log.notes[1] = note
    verdict = judged(log, export)
    assert not verdict.ok
    assert verdict.message.startswith("checkpoint 2 of the export cannot be trusted: ")


def test_a_checkpoint_signed_over_other_records_names_the_first_it_may_be(log: Log, export: Path) -> None:
    log.notes[1] = OWN.sign(Checkpoint(origin_of("acme"), 7, bytes(32)))
    assert judged(log, export).first_bad == 3


@pytest.mark.parametrize("kept", [True, False], ids=["with kept checkpoints", "without"])
def test_records_that_no_checkpoint_covers_are_found(kept: bool, log: Log, export: Path) -> None:
    trusted = list(log.notes) if kept else []
    log.seal([record_of(12), record_of(13)])
    log.notes.pop()
    verdict = judged(log, export, trusted=trusted)
    assert (verdict.ok, verdict.first_bad) == (False, 12)


def test_an_export_without_any_checkpoint_is_no_proof(log: Log, export: Path) -> None:
    log.notes = []
    verdict = judged(log, export)
    assert (verdict.ok, verdict.first_bad) == (False, 0)


@dataclass(frozen=True)
class Damage:
    """Raw bytes of an export file."""

    name: str
    apply: Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage",
    [
        Damage("empty", lambda whole: b""),
        Damage("cut in a line", lambda whole: whole[:-5]),
        Damage("no header", lambda whole: whole.split(b"\n", 1)[1]),
        Damage("header twice", lambda whole: whole.split(b"\n", 1)[0] + b"\n" + whole),
        Damage("a line too long", lambda whole: whole + b'{"kind":"' + b"x" * 300_000 + b'"}\n'),
        Damage("not JSON", lambda whole: whole + b"hello\n"),
        Damage("not UTF-8", lambda whole: whole + b'{"kind":"\xff"}\n'),
        Damage("nested", lambda whole: whole + b"[" * 50_000 + b"\n"),
        Damage("another kind", lambda whole: whole + b'{"kind":"note"}\n'),
        Damage("a key twice", lambda whole: whole.replace(b'"seq": 5', b'"seq": 4, "seq": 5')),
        Damage("no public key", lambda whole: whole.replace(b'"public_key"', b'"secret_key"')),
        Damage("no key's bytes", lambda whole: whole.replace(text(OWN.public_key).encode(), b"AAAA")),
        Damage("header of another tenant", lambda whole: whole.replace(b'"tenant": "acme"', b'"tenant": "other"')),
        Damage("number as text", lambda whole: whole.replace(b'"seq": 5', b'"seq": "5"')),
        Damage("number as true", lambda whole: whole.replace(b'"seq": 1,', b'"seq": true,')),
    ],
    ids=lambda damage: damage.name,
)
def test_a_damaged_file_is_a_verdict_and_never_a_crash(damage: Damage, log: Log, export: Path) -> None:
    from shared.audit.verify import verify_export

    export.write_bytes(damage.apply(written(log.lines(), export).read_bytes()))
    verdict = verify_export(export)
    assert not verdict.ok
    assert verdict.message


def test_a_file_that_is_not_there_is_a_verdict(export: Path) -> None:
    from shared.audit.verify import verify_export

    assert "No such file" in verify_export(export).message


def test_a_log_that_nobody_touched_is_found_whole(log: Log, export: Path) -> None:
    verdict = judged(log, export, public_key=OWN.public_key, trusted=log.notes)
    assert (verdict.ok, verdict.records, verdict.first_bad, verdict.checkpoints) == (True, 12, None, 3)
