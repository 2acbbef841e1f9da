"""PgBouncer as the functions meet it: a real one, in transaction mode, before a real PostgreSQL.

It takes `pgbouncer` 1.20 or later from the PATH, or `DCODER_TEST_PGBOUNCER` names the command.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from knative import policies, schemas
from knative.base import pgbouncer
from knative.environment import FOLDER, Environment, PgBouncer, load, parse
from knative.manifest import Manifest
from knative.render import files, render
from shared.function.catalog import find
from shared.host.pooler import ROLE, is_prepared, prepare_pooler
from shared.ids import TenantId
from shared.postgres import Databases, TenantDatabase, address
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.ports import free_port
from tests.knative.test_policies import SEEDS

PRODUCTION = load("production")
RENDERED = render(find(), PRODUCTION)
COMMAND = "DCODER_TEST_PGBOUNCER"
ROOT_KEY = b"r" * 32
CALLS, POOL = 400, 2


def named(kind: str, name: str = "pgbouncer") -> Manifest:
    return next(one for one in RENDERED if one["kind"] == kind and one["metadata"]["name"] == name)


def test_its_image_is_pinned_and_its_policies_hold() -> None:
    deployment = named("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert "@sha256:" in container["image"]
    assert policies.violations([deployment]) == []
    assert schemas.faults([deployment, named("HorizontalPodAutoscaler")]) == []


OF_OTHER_KINDS = {"min-scale has a reason", "tenant is labelled", "dedicated holds its own"}


@pytest.mark.parametrize("rule", sorted(policies.RULES.keys() - OF_OTHER_KINDS))
def test_each_policy_catches_a_seeded_violation_in_it(rule: str) -> None:
    spoilt = yaml.safe_load(yaml.safe_dump(named("Deployment")))

    SEEDS[rule](spoilt)

    assert policies.violations([spoilt]) == [f"Deployment pgbouncer: {rule}"]


def test_functions_reach_it_and_only_it_reaches_postgres() -> None:
    egress = {
        one["metadata"]["name"]: str(one["spec"].get("egress", ""))
        for one in RENDERED
        if one["kind"] == "NetworkPolicy"
    }

    assert "10.20.0.0/24" in egress["pgbouncer"]
    assert [name for name, rules in egress.items() if "10.20.0.0/24" in rules] == ["pgbouncer"]
    assert "'app.kubernetes.io/name': 'pgbouncer'" in egress["governance-keys"]


def test_its_secrets_are_not_rendered_and_functions_get_its_address() -> None:
    url = "postgresql://dcoder:hunter2@db.example.com:5432/dcoder"
    (secret,) = pgbouncer.confidential(PRODUCTION, ROOT_KEY, url)

    assert secret["data"].keys() == {"pgbouncer.ini", "users.txt"}
    assert "hunter2" not in pgbouncer.configuration(PRODUCTION, pooler(PRODUCTION), url)
    assert pgbouncer.password(ROOT_KEY) not in "".join(files(RENDERED).values())
    assert pgbouncer.pooled_url(PRODUCTION, url) == (
        "postgresql://dcoder:hunter2@pgbouncer.dcoder.svc.cluster.local:6432/dcoder"
    )


def pooler(environment: Environment) -> PgBouncer:
    assert environment.pgbouncer is not None
    return environment.pgbouncer


def test_more_connections_than_a_tenants_role_may_have_are_refused() -> None:
    document = yaml.safe_load((FOLDER / "production.yaml").read_text())
    document["pgbouncer"]["instances_max"] = 6

    with pytest.raises(Exception, match=r"x\.yaml: pgbouncer: .*is over 20, what a tenant's role may have"):
        parse(yaml.safe_dump(document), "x.yaml")


@dataclass(frozen=True)
class Pooled:
    """A PgBouncer that runs, and the addresses of the server behind it."""

    port: int
    administrator: str
    platform: str

    def through(self, url: str) -> str:
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}").geturl()


@pytest.fixture(scope="module")
def program() -> list[str]:
    found = shlex.split(os.environ.get(COMMAND, "")) or [shutil.which("pgbouncer") or ""]
    if not found[0]:
        pytest.skip(f"there is no pgbouncer on the PATH, and {COMMAND} names none")
    return found


@pytest.fixture(scope="module")
def running(
    program: list[str], postgres_admin_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pooled]:
    folder, port = tmp_path_factory.mktemp("pgbouncer"), free_port()
    own = pgbouncer.password(ROOT_KEY)
    asyncio.run(prepare_pooler(postgres_admin_url, urlsplit(settings.postgres_url).path.lstrip("/"), own))
    text = pgbouncer.configuration(
        PRODUCTION,
        pooler(PRODUCTION).model_copy(update={"port": port, "tenant_connections_max": POOL}),
        settings.postgres_url,
    )
    (folder / "pgbouncer.ini").write_text(text.replace(pgbouncer.FILES, str(folder)))
    (folder / "users.txt").write_text(pgbouncer.users(own))
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(as_nobody([*program, str(folder / "pgbouncer.ini")], folder), stderr=out, stdout=out)
    try:
        wait_for_port(port, log)
        yield Pooled(port, postgres_admin_url, settings.postgres_url)
    finally:
        process.kill()
        process.wait(10)


def as_nobody(argv: list[str], folder: Path) -> list[str]:
    """It refuses to run as root."""
    if os.getuid() != 0:
        return argv
    for one in (folder, *folder.parents[:3]):
        one.chmod(one.stat().st_mode | 0o055)
    for one in folder.iterdir():
        one.chmod(0o644)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv]


def wait_for_port(port: int, log: Path) -> None:
    import socket
    import time

    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases(connections_max=40)
    yield opened
    await opened.close()


async def test_many_calls_of_two_tenants_at_once_share_few_connections_and_each_sees_its_own(
    running: Pooled, registry: TenantRegistry, tenant: TenantId, other_tenant: TenantId, databases: Databases
) -> None:
    places = {one: running.through(await dsn_of(registry, one)) for one in (tenant, other_tenant)}

    before = await sessions(running, {tenant, other_tenant})

    async def call(number: int) -> tuple[str, str, dict[str, int]]:
        owner = (tenant, other_tenant)[number % 2]
        database = TenantDatabase(owner, places[owner], databases)
        name = str(await database.fetchval("SELECT current_database() WHERE $1::int = $1", number))
        async with database.transaction() as transaction:
            document = await transaction.fetchval("SELECT jsonb_build_object('n', $1::int)", number)
            rows = await transaction.fetch("SELECT n FROM generate_series(1, $1::int) n", number % 7 + 1)
        assert len(rows) == number % 7 + 1
        return owner, name, document

    answers = await asyncio.gather(*(call(number) for number in range(CALLS)))

    assert {(owner, name) for owner, name, _ in answers} == {
        (one, f"t_{one.replace('-', '_')}") for one in (tenant, other_tenant)
    }
    assert [document["n"] for _, _, document in answers] == list(range(CALLS))
    made = await sessions(running, {tenant, other_tenant}) - before
    assert 0 < len(made) <= 2 * POOL


async def sessions(running: Pooled, tenants: set[TenantId]) -> set[int]:
    """The server's processes for these tenants' databases."""
    connection = await asyncpg.connect(running.administrator)
    try:
        names = [f"t_{one.replace('-', '_')}" for one in tenants]
        found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE datname = ANY($1)", names)
    finally:
        await connection.close()
    return {one["pid"] for one in found}


async def dsn_of(registry: TenantRegistry, tenant: TenantId) -> str:
    return (await registry.database(tenant))._dsn


async def test_a_tenants_role_reaches_no_other_database_and_a_wrong_password_none(
    running: Pooled, registry: TenantRegistry, tenant: TenantId, other_tenant: TenantId
) -> None:
    own = running.through(await dsn_of(registry, tenant))
    others = address(own, database=f"t_{other_tenant.replace('-', '_')}")
    parts = urlsplit(own)
    forged = address(own, database=parts.path.lstrip("/"), user=str(parts.username), password="guessed")

    for refused in (others, forged):
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await asyncpg.connect(refused, statement_cache_size=0, timeout=10)
    assert await one(own, "SELECT 1") == 1


async def test_a_superuser_does_not_log_in_through_it_and_its_role_may_ask_for_passwords_only(running: Pooled) -> None:
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await asyncpg.connect(running.through(running.administrator), statement_cache_size=0, timeout=10)

    control = urlsplit(running.platform).path.lstrip("/")
    role = address(running.platform, database=control, user=ROLE, password=pgbouncer.password(ROOT_KEY))
    assert await is_prepared(running.platform, pgbouncer.password(ROOT_KEY))
    assert not await is_prepared(running.platform, "another")
    assert await one(role, "SELECT count(*) FROM dcoder_pooler.credentials('postgres')") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await one(role, "SELECT * FROM tenants")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await one(running.platform, "SELECT * FROM dcoder_pooler.credentials('postgres')")


async def one(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_a_tenant_is_made_and_deleted_with_all_calls_through_it(
    running: Pooled, settings: Settings, tmp_path: Path
) -> None:
    from dataclasses import replace

    from shared.function.process import Process
    from shared.function.resources import OPENERS

    process = Process(replace(settings, postgres_url=running.through(settings.postgres_url)), OPENERS)
    try:
        registry = await process.get(TenantRegistry)
        name = TenantId(f"pooled-{os.getpid()}")
        await registry.create(name)
        assert await (await registry.database(name)).fetchval("SELECT current_user") == f"t_{name.replace('-', '_')}"
        await registry.delete(name)
    finally:
        await process.close()
