"""Tenants with something in every table and in their bucket, and their exports."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from functions.governance.audit import log
from shared.audit.checkpoint import AuditSigner
from shared.function.process import Process
from shared.ids import TenantId
from shared.objects import ObjectStore, TenantObjects
from shared.postgres import ControlDatabase, TenantDatabase
from shared.tenancy import TenantRegistry
from tests.fixtures.platform import key_for

OBJECTS = {
    "documents/plain.txt": b"plain",
    "documents/empty": b"",
    "documents/a b+c/ünï%20&?#.txt": "日本".encode(),
    "documents/日本/…": b"x" * 1000,
    "documents/many": bytes(range(256)) * 4096,
}
HOSTILE = {"documents/control\x01\x1fcharacters": b"odd", "documents/new\nline": b"line", "etc/%2e%2e/%2Fpasswd": b"no"}
CHUNKS = """
INSERT INTO chunks (id, document_id, ordinal, start_at, end_at, heading, text, terms, content_hash)
SELECT $1 || '-' || i, $2, i, i, i + 1, 'A "heading" \\ ' || chr(1 + i % 30),
       'text ' || $1 || E'\\n\\t\\\\ "é🙂" ' || i, 3,
       sha256(i::text::bytea) FROM generate_series(0, $3 - 1) i
"""
VECTORS = """
INSERT INTO chunk_vectors (n, d, embedding)
SELECT n, 1, array_fill((n::real / 777)::real, ARRAY[384])::halfvec FROM chunks
"""
LEDGER = """
INSERT INTO usage_ledger (id, started_at, tenant, request_id, model, provider, feature, outcome, usage_known,
                          price_known, cost_micro_usd)
VALUES ($1, now(), $2, $3, 'm', 'p', 'chat', 'done', true, true, 7)
"""


@dataclass(frozen=True)
class Filled:
    """A tenant, and a text that is all over its data and nowhere else."""

    tenant: TenantId
    mark: str
    database: TenantDatabase
    control: ControlDatabase
    objects: TenantObjects
    key: str


async def filled(process: Process, *, chunks: int = 30, mark: str = "") -> Filled:
    """A tenant of its own with a document of that many chunks."""
    mark = mark or f"mark{uuid4().hex}"
    registry = await process.get(TenantRegistry)
    tenant = (await registry.create(f"x{uuid4().hex[:10]}")).id
    control = await process.get(ControlDatabase)
    found = Filled(
        tenant,
        mark,
        await registry.database(tenant),
        control,
        (await process.get(ObjectStore)).tenant(tenant),
        await key_for(process, tenant),
    )
    await fill_database(found, chunks)
    await fill_control(found)
    await fill_bucket(found, await process.get(ObjectStore))
    await log.seal_all(process, tenant, await process.get(AuditSigner))
    return found


async def emptied(found: Filled, registry: TenantRegistry) -> None:
    """The tenant is gone, and what is in the outbox and is no event with it."""
    await registry.delete(found.tenant)
    await found.control.execute("DELETE FROM outbox WHERE event ->> 'id' = $1", found.mark)


async def fill_database(found: Filled, chunks: int) -> None:
    document = uuid4()
    async with found.database.transaction() as own:
        await own.execute(
            "INSERT INTO documents (id, name, etag, bytes) VALUES ($1, $2, 'e', 1)", document, f"{found.mark}.txt"
        )
        text = f"{found.mark} \\ \x01\x02\r\n\t\"' é🙂\u2028"
        await own.execute("INSERT INTO document_texts VALUES ($1, 1, $2)", document, text)
        await own.execute(
            "INSERT INTO indexed_documents (document_id, version, chunks, terms) VALUES ($1, 1, $2, 3)",
            document,
            chunks,
        )
        await own.execute(CHUNKS, found.mark, document, chunks)
        await own.execute(VECTORS)
        await own.execute("INSERT INTO postings SELECT 1, n, 1, 2, 3 FROM chunks")
        await own.execute(
            "INSERT INTO kept_vectors SELECT $1, '\\x00ff', embedding FROM chunk_vectors LIMIT 1", document
        )
        await own.execute(
            "INSERT INTO provider_credentials (name, kind, base_url, models, sealed) VALUES ($1, 'k', 'u', $2, $3)",
            "openai", ["a", {"b": None}], b"sealed-credential",
        )  # fmt: skip
        await own.execute(
            "INSERT INTO responses (id, owner, provider, model, models, sealed, expires_at)"
            " VALUES ('resp_1', 'k', 'openai', 'a', '{a}', $1, now() + interval '1 day')", b"kept-response",
        )  # fmt: skip
        await own.audit("documents.upload", f"document/{found.mark}", actor="key:x", details={"a": "é"})


async def fill_control(found: Filled) -> None:
    event = {"id": found.mark, "tenant": found.tenant, "data": {"mark": found.mark}}
    async with found.control.transaction() as control:
        await control.execute(LEDGER, uuid4(), found.tenant, found.mark)
        await control.execute(
            "INSERT INTO usage_open (id, process, tenant, request_id, model, provider, feature)"
            " VALUES ($1, 'p', $2, $3, 'm', 'p', 'chat')", uuid4(), found.tenant, found.mark,
        )  # fmt: skip
        await control.execute(
            "INSERT INTO dead_letters (tenant, function, event_id, event, reason, attempts)"
            " VALUES ($1, 'f', $2, $3, 'r', 1)",
            found.tenant, found.mark, event,
        )  # fmt: skip
        await control.execute(
            "INSERT INTO quotas (tenant, scope, name, metric, span, amount, by_operator, created_by)"
            " VALUES ($1, 'tag', $2, 'micro_usd', 'calendar:month', 7, false, 'key:x')",
            found.tenant, found.mark,
        )  # fmt: skip
        await control.execute(
            "INSERT INTO own_prices (tenant, model, since, cards, by_operator, created_by)"
            " VALUES ($1, $2, '2026-11-01', 'standard input=1 output=2', false, 'key:x')", found.tenant, found.mark,
        )  # fmt: skip
        await control.execute("INSERT INTO allowed_models VALUES ($1, $2)", found.tenant, [f"*/{found.mark}"])
        await control.execute("INSERT INTO schedule_ticks VALUES ($1, now(), $2)", found.mark, found.tenant)
        await control.execute("INSERT INTO outbox (event) VALUES ($1)", event)
        await control.execute("INSERT INTO own_functions (tenant, name) VALUES ($1, $2)", found.tenant, found.mark)
        await control.execute(
            "INSERT INTO own_revisions (tenant, name, revision, statement, signature, archive, created_by)"
            " VALUES ($1, $2, 1, 's', 'g', 'a', 'o')", found.tenant, found.mark,
        )  # fmt: skip
        await control.execute(
            "INSERT INTO idempotency_keys (tenant, operation, key, fingerprint) VALUES ($1, 'o', 'cached-answer', 'x')",
            found.tenant,
        )


async def fill_bucket(found: Filled, store: ObjectStore) -> None:
    for key, body in OBJECTS.items():
        await found.objects.put(key, body, "text/plain")
    for key, body in {**HOSTILE, f"documents/{found.mark}": found.mark.encode()}.items():
        await store.call(
            lambda client, key=key, body=body: client.put_object(  # type: ignore[misc]  # bound at once
                Bucket=found.objects.bucket, Key=key, Body=body, Metadata={"team": "red"}, ContentLanguage="de"
            )
        )


def contents(path: Path) -> dict[str, bytes]:
    """The archive's entries, as any tar program sees them."""
    with tarfile.open(path) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]  # all are files


def manifest(entries: dict[str, bytes]) -> list[dict[str, Any]]:  # Any: JSON
    return [json.loads(line) for line in entries["manifest.jsonl"].splitlines()]
