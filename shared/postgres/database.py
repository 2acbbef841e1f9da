"""A database bound to whose it is, and the transaction that carries a change with its events and audit records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.ids import PLATFORM, TenantId
from shared.postgres.connections import Databases, place

if TYPE_CHECKING:
    import asyncpg

    from shared.events import CloudEvent


class translated:
    """A connection that is lost, or a statement over its time, as a problem that says where. SQL errors pass."""

    __slots__ = ("_dsn",)

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is not None and (problem := problem_of(failure, self._dsn)) is not None:
            raise problem from failure


def problem_of(failure: BaseException, dsn: str) -> Problem | None:
    """What a failure of a statement means for who asked; None for one that he has to see himself."""
    import asyncpg

    if isinstance(failure, asyncpg.QueryCanceledError):
        return DeadlineExceeded(f"a statement on {place(dsn)} took too long")
    if isinstance(failure, asyncpg.ReadOnlySQLTransactionError):
        said = f"{place(dsn)} takes no writes: it is being moved to another server, or was made read-only"
        return Unavailable(said, retry_after_s=5)
    if isinstance(failure, asyncpg.InsufficientResourcesError):
        what = "disk" if isinstance(failure, asyncpg.DiskFullError) else "resources"
        return Unavailable(f"{place(dsn)} has no {what} left; free some, nothing has to be repaired")
    if isinstance(failure, lost_connection()):
        return Unavailable(f"the connection to {place(dsn)} was lost: {type(failure).__name__}")
    if isinstance(failure, asyncpg.InterfaceError) and "closed" in str(failure):
        return Unavailable(f"the connection to {place(dsn)} was closed")
    return None


def lost_connection() -> tuple[type[BaseException], ...]:
    """What asyncpg raises when the server went away: before, during, or while nobody was using the connection."""
    import asyncpg

    return (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
        asyncpg.InternalClientError,
    )


class Statements:
    """What can be asked of one connection inside a transaction."""

    def __init__(self, connection: asyncpg.Connection, tenant: TenantId) -> None:
        self._connection = connection
        self.tenant = tenant
        self.emitted = False
        self.audited = False
        self.audited_tenants: set[TenantId] = set()

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        return await self._connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        return await self._connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        return await self._connection.execute(sql, *arguments)

    async def executemany(self, sql: str, arguments: Sequence[Sequence[object]]) -> None:
        await self._connection.executemany(sql, arguments)

    async def copy_records(self, table: str, columns: Sequence[str], records: Sequence[Sequence[object]]) -> None:
        await self._connection.copy_records_to_table(table, columns=list(columns), records=records)

    async def copy_lines(
        self, sql: str, arguments: Sequence[object], write: Callable[[bytes], Coroutine[Any, Any, None]]
    ) -> None:
        """Stream a query of one text column as lines. Waits for `write`, so what is held does not grow with the rows.

        The text must have no line breaks and neither U+0001 nor U+0002, as JSON has none: nothing is quoted then.
        """
        await self._connection.copy_from_query(
            sql, *arguments, output=write, format="csv", delimiter="\x01", quote="\x02", encoding="UTF8"
        )

    async def emit(self, event: CloudEvent) -> None:
        """Leave an event in the outbox: it is published if, and only if, this transaction commits."""
        self.emitted = True
        await self._connection.execute("INSERT INTO outbox (event) VALUES ($1)", event.to_json())

    async def audit(
        self,
        action: str,
        resource: str,
        *,
        actor: str,
        tenant: TenantId | None = None,
        outcome: str = "done",
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Leave an audit record, in its canonical bytes, for the sealer of `tenant` (default: this database's)."""
        from shared.audit.records import canonical

        of = tenant or self.tenant
        self.audited = True
        self.audited_tenants.add(of)
        record_id = uuid4()
        at = await self._connection.fetchval("SELECT clock_timestamp()")
        record = canonical(
            record_id=record_id,
            tenant=of,
            action=action,
            resource=resource,
            actor=actor,
            outcome=outcome,
            at=at,
            details=details or {},
        )
        await self._connection.execute(
            "INSERT INTO audit_outbox (id, tenant, record) VALUES ($1, $2, $3)", record_id, of, record
        )

    async def first_time(self, consumer: str, event_id: str) -> bool:
        """Whether this consumer has not handled the event yet. It has, once this transaction commits."""
        status = await self._connection.execute(
            "INSERT INTO processed_events (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            consumer,
            event_id,
        )
        return str(status).endswith(" 1")


class TenantTransaction(Statements):
    """A transaction on one tenant's own database."""


class ControlTransaction(Statements):
    """A transaction on the control database."""


class _Database:
    def __init__(self, tenant: TenantId, dsn: str, databases: Databases) -> None:
        self.tenant = tenant
        self._dsn = dsn
        self.databases = databases

    def __repr__(self) -> str:
        return f"{type(self).__name__}({place(self._dsn)})"

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        with translated(self._dsn):
            async with self.databases.connection(self._dsn) as connection:
                return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        with translated(self._dsn):
            async with self.databases.connection(self._dsn) as connection:
                return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        with translated(self._dsn):
            async with self.databases.connection(self._dsn) as connection:
                return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        with translated(self._dsn):
            async with self.databases.connection(self._dsn) as connection:
                return await connection.execute(sql, *arguments)

    @asynccontextmanager
    async def _transaction(self, kind: type[Statements]) -> AsyncIterator[Any]:
        with translated(self._dsn):
            async with self.databases.connection(self._dsn) as connection, connection.transaction():
                transaction = kind(connection, self.tenant)
                yield transaction
        self._announce(transaction)

    def _announce(self, transaction: Statements) -> None:
        for hook in self.databases.on_commit:
            if transaction.emitted:
                hook(self.tenant, True, False)
            for tenant in transaction.audited_tenants:
                hook(tenant, False, True)


class TenantDatabase(_Database):
    """One tenant's own database."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TenantTransaction]:
        async with self._transaction(TenantTransaction) as transaction:
            yield transaction


class ControlDatabase(_Database):
    """The platform's database: tenants, keys, ledger, schedules, dead letters."""

    def __init__(self, dsn: str, databases: Databases) -> None:
        super().__init__(PLATFORM, dsn, databases)

    @property
    def dsn(self) -> str:
        """The address, with its secret: for `shared.tenancy`, which opens other databases of the same server."""
        return self._dsn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[ControlTransaction]:
        async with self._transaction(ControlTransaction) as transaction:
            yield transaction
