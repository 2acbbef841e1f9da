"""What PgBouncer needs of a PostgreSQL server: a role that may ask for others' SCRAM secrets, and nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

ROLE = "dcoder_pooler"
SCHEMA = "dcoder_pooler"
FUNCTION = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.credentials(asked text) RETURNS TABLE (name text, secret text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid
   WHERE rolname = asked AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls
     AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())
$$
"""
"""Superusers are left out: none logs in through a pooler that every function reaches."""


def credentials_query() -> str:
    return f"SELECT name, secret FROM {SCHEMA}.credentials($1)"


async def is_prepared(postgres_url: str, password: str) -> bool:
    """Whether the role is there with that password, and may ask."""
    from shared.errors import Unavailable
    from shared.postgres import address, open_connection

    own = address(postgres_url, database=urlsplit(postgres_url).path.lstrip("/"), user=ROLE, password=password)
    try:
        async with open_connection(own) as server:
            return bool(await server.fetchval("SELECT to_regprocedure($1) IS NOT NULL", f"{SCHEMA}.credentials(text)"))
    except Unavailable:
        return False


async def prepare_pooler(admin_url: str, database: str, password: str) -> None:
    """The role and its function in the control database. `admin_url` is a superuser's. Safe to repeat."""
    from shared.postgres import address, open_connection
    from shared.postgres.connections import quoted

    async with open_connection(address(admin_url, database=database)) as server:
        exists = await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", ROLE)
        verb = "ALTER" if exists else "CREATE"
        await server.execute(f"{verb} ROLE {ROLE} LOGIN PASSWORD {quoted(password)}")
        await server.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {ROLE}')
        await server.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await server.execute(FUNCTION)
        await server.execute(f"REVOKE ALL ON FUNCTION {SCHEMA}.credentials(text) FROM PUBLIC")
        await server.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}")
        await server.execute(f"GRANT EXECUTE ON FUNCTION {SCHEMA}.credentials(text) TO {ROLE}")
