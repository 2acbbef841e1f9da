"""PostgreSQL: one connection budget a process, and database types that are bound to whose database they are."""

from shared.postgres.connections import (
    Databases,
    address,
    drop_database,
    end_sessions,
    open_connection,
    quoted,
    refusals,
)
from shared.postgres.database import (
    ControlDatabase,
    ControlTransaction,
    TenantDatabase,
    TenantTransaction,
    translated,
)
from shared.postgres.scram import scram_verifier

__all__ = [
    "ControlDatabase",
    "ControlTransaction",
    "Databases",
    "TenantDatabase",
    "TenantTransaction",
    "address",
    "drop_database",
    "end_sessions",
    "open_connection",
    "quoted",
    "refusals",
    "scram_verifier",
    "translated",
]
