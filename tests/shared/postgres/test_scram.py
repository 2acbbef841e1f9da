"""The verifier is the one PostgreSQL would compute."""

from __future__ import annotations

import base64
import secrets

from shared.postgres import open_connection, quoted, scram_verifier
from shared.postgres.connections import address


async def test_the_verifier_is_what_the_server_itself_computes(postgres_admin_url: str) -> None:
    role, password = f"scram_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    async with open_connection(postgres_admin_url) as server:
        await server.execute(f"CREATE ROLE {role} LOGIN PASSWORD {quoted(password)}")
        try:
            kept = str(await server.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", role))
        finally:
            await server.execute(f"DROP ROLE {role}")
    salt = base64.b64decode(kept.split("$")[1].split(":")[1])
    assert scram_verifier(password, salt=salt) == kept


async def test_a_role_made_with_a_verifier_logs_in_with_the_password(postgres_admin_url: str) -> None:
    role, password = f"scram_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    async with open_connection(postgres_admin_url) as server:
        verifier = quoted(scram_verifier(password, salt=bytes(16)))
        await server.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD {verifier}")  # others may not connect there
        try:
            dsn = address(postgres_admin_url, database="postgres", user=role, password=password)
            async with open_connection(dsn) as own:
                assert await own.fetchval("SELECT current_user") == role
        finally:
            await server.execute(f"DROP ROLE {role}")
