"""One budget of connections over all databases of the process.

A connection cannot change its database, so a pool per tenant multiplies with the tenants. Here an idle connection of
another database makes room for the one that is needed. Nothing stays on a session (no prepared statements, no `SET`),
so PgBouncer in transaction mode fits in front.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from shared.errors import Unavailable
from shared.ids import TenantId

if TYPE_CHECKING:
    import asyncpg

OnCommit = Callable[[TenantId, bool, bool], None]
CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
FULL_WAIT_S = 10.0
"""For a database that takes no further connection: longer than other processes keep idle ones."""
FULL_PAUSE_S = (0.05, 0.25)
WAITERS_MAX = 1000
HALF_DROPPED = -2
"""`pg_database.datconnlimit` of a database whose drop was interrupted."""
END_SESSIONS = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.datname = $1 AND a.pid <> pg_backend_pid() AND pg_has_role(r.oid, 'USAGE')
   AND (NOT r.rolsuper OR current_setting('is_superuser')::boolean)
"""
"""Only those that the role in use may end."""


class Full(Exception):
    """The server, or the role, has all the connections that it may have."""


class Checkout:
    """One connection of the budget for the length of a block. A class, no generator: every statement takes one."""

    __slots__ = ("_connection", "_databases", "_dsn")

    def __init__(self, databases: Databases, dsn: str) -> None:
        self._databases = databases
        self._dsn = dsn

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await self._databases.taken(self._dsn)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is not None and is_clients_own(failure):
            self._connection.terminate()  # a dying server's last words came while it was idle: not closed, no use
        await self._databases.give_back(self._dsn, self._connection)


class Databases:
    """Connections by address, at most `connections_max` in all, idle ones closed after `idle_close_s`."""

    def __init__(
        self,
        connections_max: int,
        *,
        idle_close_s: float = 5.0,
        wait_s_max: float = 5.0,
        full_wait_s: float = FULL_WAIT_S,
    ) -> None:
        self.on_commit: list[OnCommit] = []
        self._idle_close_s = idle_close_s
        self._wait_s_max = wait_s_max
        self._full_wait_s = full_wait_s
        self._slots = asyncio.Semaphore(connections_max)
        self._waiting = 0
        self._idle: OrderedDict[str, deque[tuple[asyncpg.Connection, float]]] = OrderedDict()
        self._connections_max = connections_max
        self._open = 0
        self._room = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    def connection(self, dsn: str) -> Checkout:
        """A clean connection, for the length of a block. Entering raises `Unavailable` when the budget stays spent or
        the server is away."""
        return Checkout(self, dsn)

    async def give_back(self, dsn: str, connection: asyncpg.Connection) -> None:
        """A checkout has ended."""
        try:
            await self._give_back(dsn, connection)
        finally:
            self._slots.release()

    async def taken(self, dsn: str) -> asyncpg.Connection:
        """A connection, and a slot of the budget with it. Who waits for a full database holds no slot: a tenant whose
        role has all its connections, in this process and others, holds up no other tenant."""
        until = time.monotonic() + self._full_wait_s
        while True:
            await self._take_slot()
            try:
                return await self._checked_out(dsn)
            except Full as full:
                self._slots.release()
                if time.monotonic() >= until:
                    raise Unavailable(f"database {place(dsn)} takes no further connection: {full}") from None
            except BaseException:
                self._slots.release()
                raise
            await asyncio.sleep(random.uniform(*FULL_PAUSE_S))  # noqa: S311  no secret

    async def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for queue in self._idle.values():
            while queue:
                await self._discard(queue.popleft()[0])
        self._idle.clear()

    async def _take_slot(self) -> None:
        if not self._slots.locked():  # nearly always; waiting costs a task
            await self._slots.acquire()
            return
        if self._waiting >= WAITERS_MAX:
            raise Unavailable("too many calls are waiting for a database connection")
        self._waiting += 1
        try:
            await asyncio.wait_for(self._slots.acquire(), self._wait_s_max)
        except TimeoutError as late:
            raise Unavailable(
                f"all {self._connections_max} database connections of this process stayed in use"
                f" for {self._wait_s_max} s"
            ) from late
        finally:
            self._waiting -= 1

    async def _checked_out(self, dsn: str) -> asyncpg.Connection:
        queue = self._idle.get(dsn)
        while queue:
            connection, _ = queue.pop()
            if not queue:
                del self._idle[dsn]
            if not connection.is_closed():
                return connection
            self._closed_one()
        while self._open >= self._connections_max:
            if self._idle:
                await self._evict()
            else:  # those in use are fewer than the budget, ours included, so one is being closed at this moment
                self._room.clear()
                await self._room.wait()
        return await self._connect(dsn)

    async def _evict(self) -> None:
        """Close the idle connection whose database was used longest ago."""
        dsn, queue = next(iter(self._idle.items()))
        connection, _ = queue.popleft()
        if not queue:
            del self._idle[dsn]
        await self._discard(connection)

    async def _connect(self, dsn: str) -> asyncpg.Connection:
        import asyncpg

        self._open += 1
        try:
            connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_TIMEOUT_S)
            await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        except asyncpg.TooManyConnectionsError as full:
            self._closed_one()
            raise Full(str(full)) from None
        except unreachable() as failure:
            self._closed_one()
            raise Unavailable(f"database {place(dsn)} is not reachable: {type(failure).__name__}") from None
        except BaseException:
            self._closed_one()
            raise
        return connection

    async def _give_back(self, dsn: str, connection: asyncpg.Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction() or self._closed:
            await asyncio.shield(self._discard(connection))
            return
        self._idle.setdefault(dsn, deque()).append((connection, time.monotonic()))
        self._idle.move_to_end(dsn)
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="idle-connections")

    async def _discard(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_TIMEOUT_S)
        except BaseException as failure:
            connection.terminate()  # it cannot say goodbye, or the wait for it was cancelled
            if not isinstance(failure, Exception):
                raise
        finally:
            self._closed_one()

    def _closed_one(self) -> None:
        self._open -= 1
        self._room.set()

    async def _sweep(self) -> None:
        while self._idle:
            await asyncio.sleep(self._idle_close_s / 2)
            oldest = time.monotonic() - self._idle_close_s
            for dsn in list(self._idle):
                queue = self._idle.get(dsn)
                while queue and queue[0][1] < oldest:
                    connection, _ = queue.popleft()
                    await self._discard(connection)
                if not queue:
                    self._idle.pop(dsn, None)


def is_clients_own(failure: BaseException) -> bool:
    """Whether asyncpg found itself in a state that it does not know."""
    import asyncpg

    return isinstance(failure, asyncpg.InternalClientError)


def refusals() -> tuple[type[Exception], ...]:
    """What a server answers to a statement that it does not carry out."""
    import asyncpg

    return (asyncpg.PostgresError,)


def unreachable() -> tuple[type[BaseException], ...]:
    """The failures to connect that time may heal. A tenant that was deleted, moved, or created anew by another process
    is among them: its server, database or password is not what this process remembers for some seconds more."""
    import asyncpg

    return (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    )


@asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of one's own, outside the budget: for creating, migrating and dropping databases."""
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_TIMEOUT_S)
    except unreachable() as failure:
        raise Unavailable(f"database {place(dsn)} is not reachable: {type(failure).__name__}") from None
    try:
        yield connection
    finally:
        await connection.close(timeout=CLOSE_TIMEOUT_S)


async def drop_database(server: asyncpg.Connection, name: str) -> None:
    """Drop a database of ours with the sessions in it, if it is there. Raises `Unavailable` while others are in it.

    Without `FORCE`: that refuses a role that is no superuser whenever autovacuum happens to be in the database, while
    the plain form ends autovacuum by itself. What a killed drop left can be dropped, but not altered.
    """
    import asyncpg

    limit = await server.fetchval("SELECT datconnlimit FROM pg_database WHERE datname = $1", name)
    if limit is None:
        return
    if limit != HALF_DROPPED:
        await server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false IS_TEMPLATE false')
    await end_sessions(server, name)
    try:
        await server.execute(f'DROP DATABASE IF EXISTS "{name}"')
    except asyncpg.ObjectInUseError as used:
        raise Unavailable(
            f"somebody else is connected to database {name!r}; it is dropped when they are gone"
        ) from used


async def end_sessions(server: asyncpg.Connection, name: str) -> None:
    """End every session in that database, but one's own and those of roles that are not ours."""
    await server.execute(END_SESSIONS, name)


def address(dsn: str, *, database: str, user: str = "", password: str = "") -> str:
    """The same server's address of another database, for another user when one is given."""
    parts = urlsplit(dsn)
    name, secret = (user, password) if user else (parts.username or "", parts.password or "")
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit((parts.scheme, f"{name}:{secret}@{host}{port}", f"/{database}", parts.query, ""))


def quoted(text: str) -> str:
    r"""A string literal with any text in it, for statements that take no parameters (`CREATE ROLE … PASSWORD`), and for
    one that has to be a single message: with parameters it takes two round trips.

    Source: PostgreSQL, "String Constants With C-Style Escapes". Only a backslash and a quote mean something inside, and
    the `E` makes that so whatever the server's settings are. Raises `ValueError` for U+0000.
    """
    if "\0" in text:
        raise ValueError("PostgreSQL's texts hold no U+0000")
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def place(dsn: str) -> str:
    """`database@host`: an address without its secret."""
    parts = urlsplit(dsn)
    return f"{parts.path.lstrip('/')}@{parts.hostname}"
