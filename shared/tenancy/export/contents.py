"""What an export holds: which tables and columns, and, with the reason, what is left out.

A tenant's own database is read from its catalog, so a table that a later migration adds is in without a word here.
The control database belongs to all tenants: there each table that has a tenant's rows is named, here or among what
is left out, and a test fails for one that is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from shared.postgres import ControlTransaction, TenantTransaction

CONTROL_TABLES: Mapping[str, str] = {
    "tenants": "id = $1",
    "virtual_keys": "tenant = $1",
    "usage_ledger": "tenant = $1",
    "usage_open": "tenant = $1",
    "quotas": "tenant = $1",
    "own_prices": "tenant = $1",
    "allowed_models": "tenant = $1",
    "dead_letters": "tenant = $1",
    "schedule_ticks": "tenant = $1",
    "audit_outbox": "tenant = $1",
    "outbox": "event->>'tenant' = $1",
    "own_functions": "tenant = $1",
    "own_revisions": "tenant = $1",
}
"""Table of the control database → which of its rows are the tenant's."""

LEFT_OUT_TABLES: Mapping[str, str] = {
    "data_keys": "the tenant's data key, wrapped by the platform's: it would open every sealed credential",
    "role_passwords": "the sealed password of the tenant's database role",
    "object_keys": "the sealed key of the tenant's bucket in the object store",
    "dedications": "where the platform runs the tenant's functions: the platform's own arrangement",
    "idempotency_keys": "answers kept for repeated calls: a cache that expires",
    "compression_originals": "results of tools that clients send again: copies that expire within a day",
    "semantic_entries": "questions whose answers are kept: a cache that expires",
    "usage_daily": "sums of usage_ledger, which is exported",
    "quota_states": "what was last told of the quotas, which are exported; quota_mirror has it",
    "schema_migrations": "the schema's versions are in the manifest's first line",
}
"""Tables of either database, with the reason."""

SECRET_COLUMNS: Mapping[str, str] = {
    "sealed": "a credential or a kept response under the tenant's data key, which is not exported",
    "wrapped": "a key under the platform's root key",
    "hash": "the hash of a virtual key's secret",
}
"""Columns of any table, with the reason."""

LEFT_OUT_ELSEWHERE: Mapping[str, str] = {
    "schedules": "declared in the platform's code, the same for every tenant",
    "published prices": "part of the platform's code; each row of the ledger holds its own cost",
    "cache": "cached values can be computed again",
    "event stream": "undelivered events are in the outboxes and, when they died, among the dead letters",
    "earlier versions of objects": "the newest of each is exported",
    "the platform's audit log": "the operators' own; the tenant's is in audit.jsonl",
    "checkpoints outside the database": "the same signed notes are in audit.jsonl",
}

TABLES = """
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS required, coalesce(a.attnum = ANY(i.indkey), false) AS key
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
 WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname, a.attnum
"""
"""Every table that is no extension's, with its columns. A partition is read through its parent."""


@dataclass(frozen=True)
class Column:
    """`type` as PostgreSQL writes it; `key`: part of the primary key."""

    name: str
    type: str
    required: bool
    key: bool

    def document(self) -> dict[str, object]:
        return {"name": self.name, "type": self.type, "required": self.required, "key": self.key}


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def kept(self) -> tuple[Column, ...]:
        return tuple(one for one in self.columns if one.name not in SECRET_COLUMNS)

    @property
    def left_out(self) -> dict[str, str]:
        """The columns that are not exported, with the reason."""
        return {one.name: SECRET_COLUMNS[one.name] for one in self.columns if one.name in SECRET_COLUMNS}

    @property
    def file(self) -> str:
        """A file's name that no name of a table can leave: all but letters, digits and `_-~` is percent-encoded."""
        name = self.name if self.schema == "public" else f"{self.schema}.{self.name}"
        return f"{quote(name, safe='').replace('.', '%2E')}.jsonl"

    def rows(self, condition: str) -> str:
        """A query of one column: each row as a JSON object of its columns. The casts are PostgreSQL's own."""
        columns = ", ".join(identifier(one.name) for one in self.kept)
        source = f"{identifier(self.schema)}.{identifier(self.name)}"
        return f"SELECT row_to_json(r)::text AS line FROM (SELECT {columns} FROM {source} WHERE {condition}) r"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def tables_of(transaction: TenantTransaction | ControlTransaction) -> list[Table]:
    """Every table of the database, those that are left out among them."""
    found: dict[tuple[str, str], list[Column]] = {}
    for row in await transaction.fetch(TABLES):
        column = Column(row["column"], row["type"], row["required"], row["key"])
        found.setdefault((row["schema"], row["name"]), []).append(column)
    return [Table(schema, name, tuple(columns)) for (schema, name), columns in found.items()]


def exported(tables: Sequence[Table]) -> list[Table]:
    """Those of a tenant's database that are exported."""
    return [one for one in tables if one.schema != "public" or one.name not in LEFT_OUT_TABLES]


def left_out() -> list[dict[str, Any]]:  # Any: JSON
    """What no export holds, as the manifest states it."""
    tables = [{"what": f"table {name}", "why": why} for name, why in LEFT_OUT_TABLES.items()]
    columns = [{"what": f"columns named {name}", "why": why} for name, why in SECRET_COLUMNS.items()]
    return [*tables, *columns, *({"what": what, "why": why} for what, why in LEFT_OUT_ELSEWHERE.items())]
