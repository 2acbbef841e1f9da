"""The PostgreSQL servers that tenants' databases are on, by the names that the tenants' rows hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import Invalid, Unavailable
from shared.postgres import Databases, address, open_connection, translated
from shared.settings import DEFAULT_SERVER

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True)
class Servers:
    """The platform's addresses: the control database's, whose server is named `default`, and the others by name."""

    control: str = field(repr=False)
    others: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return (DEFAULT_SERVER, *sorted(self.others))

    def checked(self, name: str) -> str:
        """The name itself. Raises `Invalid` for one that is not configured, naming those that are."""
        if name not in self.names:
            raise Invalid(
                f"there is no PostgreSQL server {name[:40]!r} in DCODER_POSTGRES_SERVERS. "
                f"There are: {', '.join(self.names)}"
            )
        return name

    def address(self, name: str) -> str:
        """The platform's address on that server. Raises `Unavailable`: a tenant may be on one that is not listed."""
        found = self.control if name == DEFAULT_SERVER else self.others.get(name)
        if found is None:
            raise Unavailable(
                f"PostgreSQL server {name!r} is not known here. "
                "Add it to DCODER_POSTGRES_SERVERS of this process, then start it again",
                retry_after_s=30,
            )
        return found

    def database(self, name: str, database: str) -> str:
        """The platform's address of one database of that server."""
        return address(self.address(name), database=database)


@asynccontextmanager
async def connected(databases: Databases, dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection within the budget, its loss translated: for statements about roles and databases of a server."""
    with translated(dsn):
        async with databases.connection(dsn) as connection:
            yield connection


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of one's own, its loss translated: for what takes long."""
    with translated(dsn):
        async with open_connection(dsn) as connection:
            yield connection
