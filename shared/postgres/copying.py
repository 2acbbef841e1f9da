"""Copying every row of one database into another one of the same schema, on whichever server, without `pg_dump`.

One REPEATABLE READ snapshot of the source, one transaction on the target, PostgreSQL's binary COPY between them in
bounded memory. Before the target's transaction commits, each table's number of rows and a checksum over their texts
are compared, and each sequence is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from shared.errors import Fault

if TYPE_CHECKING:
    import asyncpg

CHUNKS_MAX = 16
"""Pieces of at most 64 KiB or one row that wait between the two servers."""
TABLES = """
SELECT c.oid, n.nspname AS schema, c.relname AS name,
       ARRAY(SELECT a.attname FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                     AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname
"""
REFERENCES = "SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid"
SEQUENCES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' ORDER BY 1
"""
SPELLING = """
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true),
       set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true)
"""
"""The same values have the same texts on both sides."""


@dataclass(frozen=True)
class Table:
    """A table and the columns that hold something of their own."""

    schema: str
    name: str
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"


@dataclass(frozen=True)
class Content:
    """How many rows a table has, and the sum of their hashes: the same for the same rows in any order."""

    rows: int
    checksum: str


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def copy_rows(
    source: asyncpg.Connection,
    target: asyncpg.Connection,
    *,
    leave_out: frozenset[str] = frozenset(),
    go_on: Callable[[], Awaitable[None]],
) -> dict[str, Content]:
    """Copy all tables but those named in `leave_out` into the target's empty ones. Returns what each holds.

    Transactions on the source that began before are waited for. Call it when new ones can write no more: the snapshot
    then holds everything that was ever acknowledged. `go_on` is asked before each table, and ends the copy by raising.
    Raises `Fault` when the target does not hold what the source does.
    """
    tables = [one for one in await tables_of(source) if one.name not in leave_out]
    await wait_for_writers(source, tables)
    copied = {}
    async with source.transaction(isolation="repeatable_read", readonly=True), target.transaction():
        for connection in (source, target):
            await connection.execute(SPELLING)
        for table in tables:
            await go_on()
            await copy_table(source, target, table)
            copied[table.sql] = await compared(source, target, table)
        await copy_sequences(source, target)
    await target.execute(f"VACUUM (ANALYZE) {', '.join(table.sql for table in tables)}")
    return copied


async def wait_for_writers(source: asyncpg.Connection, tables: Sequence[Table]) -> None:
    """A writer keeps its lock until it has committed, so this lock is had when the last one has."""
    async with source.transaction():
        await source.execute(f"LOCK TABLE {', '.join(table.sql for table in tables)} IN SHARE MODE")


async def tables_of(connection: asyncpg.Connection) -> list[Table]:
    """Every table, each after those that it refers to. Raises `Fault` for references in a circle."""
    found = {
        row["oid"]: Table(row["schema"], row["name"], tuple(row["columns"])) for row in await connection.fetch(TABLES)
    }
    before: dict[int, set[int]] = {oid: set() for oid in found}
    for row in await connection.fetch(REFERENCES):
        before[row["conrelid"]].add(row["confrelid"])
    try:
        return [found[oid] for oid in TopologicalSorter(before).static_order()]
    except ValueError as circle:
        raise Fault("tables that refer to each other in a circle cannot be copied one by one") from circle


async def copy_table(source: asyncpg.Connection, target: asyncpg.Connection, table: Table) -> None:
    """Stream one table. The failure of either side ends the other, and is raised as it is."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue(CHUNKS_MAX)
    columns = ", ".join(identifier(column) for column in table.columns)

    async def read() -> None:
        await source.copy_from_query(f"SELECT {columns} FROM {table.sql}", output=pieces.put, format="binary")
        await pieces.put(b"")

    async def arriving() -> AsyncIterator[bytes]:
        while piece := await pieces.get():
            yield piece

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(
                target.copy_to_table(
                    table.name,
                    schema_name=table.schema,
                    columns=list(table.columns),
                    source=arriving(),
                    format="binary",
                )
            )
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def compared(source: asyncpg.Connection, target: asyncpg.Connection, table: Table) -> Content:
    """What the table holds on both sides. Raises `Fault` when that differs."""
    held = [await content_of(connection, table) for connection in (source, target)]
    if held[0] != held[1]:
        raise Fault(f"table {table.sql} was copied as {held[1]} and is {held[0]}; nothing was switched over")
    return held[0]


async def content_of(connection: asyncpg.Connection, table: Table) -> Content:
    row = await connection.fetchrow(
        "SELECT count(*) AS rows, coalesce(sum(hashtextextended(whole_row::text, 0)::numeric), 0)::text AS checksum"
        f" FROM {table.sql} AS whole_row"
    )
    assert row is not None
    return Content(row["rows"], row["checksum"])


async def copy_sequences(source: asyncpg.Connection, target: asyncpg.Connection) -> None:
    for row in await source.fetch(SEQUENCES):
        state = await source.fetchrow(f"SELECT last_value, is_called FROM {row['name']}")
        assert state is not None
        await target.execute(
            "SELECT setval($1::regclass, $2, $3)", row["name"], state["last_value"], state["is_called"]
        )
