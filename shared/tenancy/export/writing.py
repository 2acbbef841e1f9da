"""Writing an export: the tenant's database, its rows in the control database, its objects, then the signed manifest.

Each database is read in one REPEATABLE READ transaction. A table's size is asked for first and its rows are streamed
after it, which in such a transaction gives the same rows twice; so nothing has to be kept, whatever its size.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

from shared.audit.checkpoint import AuditSigner
from shared.audit.export import CHECKPOINT_LINE, RECORD_LINE, header_line
from shared.errors import NotFound
from shared.ids import TenantId
from shared.objects import ObjectHead, ObjectReading, TenantObjects
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction
from shared.tenancy.export import manifest as form
from shared.tenancy.export.archive import Archive, Write
from shared.tenancy.export.contents import CONTROL_TABLES, Table, exported, left_out, tables_of
from shared.tenancy.export.manifest import Manifest, encoded

Transaction = TenantTransaction | ControlTransaction

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
SPELLING = {
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "intervalstyle": "iso_8601",
    "statement_timeout": "600s",
}
"""How values are written, whatever the role's own settings; a large table takes longer than a call's statement may."""
MEASURE = "SELECT count(*) AS rows, coalesce(sum(octet_length(line) + 1), 0)::bigint AS bytes FROM ({}) measured"
RECORDS = f"SELECT {RECORD_LINE} AS line FROM audit_log ORDER BY seq"
CHECKPOINTS = f"SELECT {CHECKPOINT_LINE} AS line FROM audit_checkpoints ORDER BY size"


@dataclass(frozen=True)
class Source:
    """Where a tenant's data is, and what signs its export."""

    tenant: TenantId
    database: TenantDatabase
    control: ControlDatabase
    objects: TenantObjects
    signer: AuditSigner


@dataclass
class Exporting:
    """An export that is being written."""

    source: Source
    archive: Archive
    manifest: Manifest
    totals: dict[str, int] = field(default_factory=lambda: {"tables": 0, "rows": 0, "objects": 0, "gone": 0})


async def write_export(source: Source, write: Write, *, export_id: UUID, at: datetime) -> None:
    """Write the archive. Raises what the stores raise; what was written until then is no archive that verifies."""
    with Manifest() as manifest:
        exporting = Exporting(source, Archive(write, int(at.timestamp())), manifest)
        await add_own_database(exporting, {"id": str(export_id), "at": at.isoformat()})
        await add_control_rows(exporting)
        async for head in source.objects.list():
            await add_object(exporting, head)
        manifest.add({"kind": "end", **exporting.totals})
        await exporting.archive.add(form.MANIFEST, manifest.size, manifest.feed)
        await add_bytes(exporting, form.SIGNATURE, manifest.signed(source.tenant, source.signer))
        await exporting.archive.end()


async def add_own_database(exporting: Exporting, identity: Mapping[str, str]) -> None:
    """The export's head, every table of the tenant's database, and its audit log in the form that verifies alone."""
    async with snapshot(exporting.source.database) as transaction:
        tables = exported(await tables_of(transaction))
        await add_head(exporting, identity, [f"database/{one.file}" for one in tables])
        for table in tables:
            await add_table(exporting, transaction, table, "database")
        await add_audit_log(exporting, transaction)


async def add_head(exporting: Exporting, identity: Mapping[str, str], planned: list[str]) -> None:
    source = exporting.source
    versions = await source.control.fetchrow(
        "SELECT version AS tenant, (SELECT max(number) FROM schema_migrations) AS control FROM tenants WHERE id = $1",
        source.tenant,
    )
    if versions is None:
        raise NotFound(f"there is no tenant {source.tenant!r}")
    head = {
        "kind": "export",
        "format": form.FORMAT,
        "tenant": source.tenant,
        **identity,
        "schema_version": dict(versions),
        "public_key": base64.b64encode(source.signer.public_key).decode(),
        "planned": [*planned, form.AUDIT, *(f"control/{name}.jsonl" for name in CONTROL_TABLES)],
        "left_out": left_out(),
    }
    exporting.manifest.add(head)
    digest = await add_bytes(exporting, form.HEAD, encoded(head))
    exporting.manifest.add({"kind": "head", "path": form.HEAD, "bytes": len(encoded(head)), "sha256": digest})


async def add_control_rows(exporting: Exporting) -> None:
    """The tenant's rows in the tables that all tenants share."""
    async with snapshot(exporting.source.control) as transaction:
        tables = {one.name: one for one in await tables_of(transaction) if one.schema == "public"}
        for name in CONTROL_TABLES:
            await add_table(exporting, transaction, tables[name], "control")


@asynccontextmanager
async def snapshot(database: TenantDatabase | ControlDatabase) -> AsyncIterator[Transaction]:
    async with database.transaction() as transaction:
        await transaction.execute(SNAPSHOT)
        for name, value in SPELLING.items():
            await transaction.execute(f"SET LOCAL {name} = '{value}'")
        yield transaction


async def add_table(exporting: Exporting, transaction: Transaction, table: Table, folder: str) -> None:
    """A table's rows: all of the tenant's own database, the tenant's in the control database."""
    own = folder == "database"
    query = table.rows("true" if own else CONTROL_TABLES[table.name])
    arguments = () if own else (exporting.source.tenant,)
    measured = await transaction.fetchrow(MEASURE.format(query), *arguments)
    assert measured is not None
    path = f"{folder}/{table.file}"
    produce = partial(transaction.copy_lines, query, arguments)
    digest = await exporting.archive.add(path, measured["bytes"], produce)
    exporting.totals["tables"] += 1
    exporting.totals["rows"] += measured["rows"]
    exporting.manifest.add(
        {
            "kind": "table",
            "path": path,
            "bytes": measured["bytes"],
            "sha256": digest,
            "rows": measured["rows"],
            "database": "own" if own else "control",
            "schema": table.schema,
            "table": table.name,
            "columns": [one.document() for one in table.kept],
            "left_out": table.left_out,
            "as_of": (await transaction.fetchval("SELECT now()")).isoformat(),
        }
    )


async def add_audit_log(exporting: Exporting, transaction: Transaction) -> None:
    head = header_line(exporting.source.tenant, exporting.source.signer)
    records = await transaction.fetchrow(MEASURE.format(RECORDS))
    checkpoints = await transaction.fetchrow(MEASURE.format(CHECKPOINTS))
    assert records is not None
    assert checkpoints is not None

    async def produce(feed: Write) -> None:
        await feed(head)
        await transaction.copy_lines(RECORDS, (), feed)
        await transaction.copy_lines(CHECKPOINTS, (), feed)

    size = len(head) + records["bytes"] + checkpoints["bytes"]
    digest = await exporting.archive.add(form.AUDIT, size, produce)
    exporting.manifest.add(
        {
            "kind": "audit",
            "path": form.AUDIT,
            "bytes": size,
            "sha256": digest,
            "records": records["rows"],
            "checkpoints": checkpoints["rows"],
        }
    )


async def add_object(exporting: Exporting, head: ObjectHead) -> None:
    """An object under a number; its key is in the manifest only. One that is deleted by now is noted as gone."""
    objects = exporting.source.objects
    try:
        async with objects.reading(head.key) as reading:
            await add_reading(exporting, reading)
    except NotFound:
        exporting.totals["gone"] += 1
        exporting.manifest.add({"kind": "gone", "key": head.key, "etag": head.etag, "bytes": head.size})


async def add_reading(exporting: Exporting, reading: ObjectReading) -> None:
    exporting.totals["objects"] += 1
    path = f"objects/{exporting.totals['objects']:09}"

    async def produce(feed: Write) -> None:
        async for block in reading.blocks():
            await feed(block)

    digest = await exporting.archive.add(path, reading.head.size, produce)
    exporting.manifest.add(
        {
            "kind": "object",
            "path": path,
            "bytes": reading.head.size,
            "sha256": digest,
            "key": reading.head.key,
            "etag": reading.head.etag,
            "content_type": reading.head.content_type,
            **reading.properties,
        }
    )


async def add_bytes(exporting: Exporting, path: str, data: bytes) -> str:
    async def produce(feed: Write) -> None:
        await feed(data)

    return await exporting.archive.add(path, len(data), produce)
