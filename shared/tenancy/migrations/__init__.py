"""Numbered migrations: one sequence of numbers over three folders, each database applies its own and `both`.

They only ever add (expand), so that two versions of the code can work on one schema during a wave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shared.errors import Fault
from shared.postgres import open_connection

if TYPE_CHECKING:
    import asyncpg

FOLDER = Path(__file__).resolve().parent
LOCK = 4_242_001  # the advisory lock of a migration, one database at a time
Kind = Literal["control", "tenant"]


@dataclass(frozen=True)
class Migration:
    """One file: `0003_tenants.sql` has number 3."""

    number: int
    name: str
    sql: str


@cache
def available(kind: Kind, folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The migrations of a control or a tenant database, in order. Raises `Fault` when a number is used twice."""
    files = sorted([*folder.glob("both/*.sql"), *folder.glob(f"{kind}/*.sql")], key=lambda path: path.name)
    found = tuple(Migration(int(path.name[:4]), path.stem, path.read_text()) for path in files)
    numbers = [migration.number for migration in found]
    if len(set(numbers)) != len(numbers):
        raise Fault(f"two migrations of {kind} databases have the same number: {[one.name for one in found]}")
    return found


def newest(kind: Kind) -> int:
    return available(kind)[-1].number


def plan(*, applied: Sequence[int], migrations: Sequence[Migration]) -> list[Migration]:
    """What is still to be applied, in order."""
    done = set(applied)
    return [migration for migration in migrations if migration.number not in done]


async def apply(connection: asyncpg.Connection, migrations: Sequence[Migration]) -> int:
    """Bring one database up to date: each file in a transaction of its own. Returns how many were applied."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    count = 0
    for migration in migrations:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            done = await connection.fetchval("SELECT true FROM schema_migrations WHERE number = $1", migration.number)
            if done:
                continue
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", migration.number, migration.name
            )
            count += 1
    return count


async def migrate_control(dsn: str) -> int:
    """Bring the control database up to date. Returns how many migrations were applied."""
    async with open_connection(dsn) as connection:
        return await apply(connection, available("control"))
