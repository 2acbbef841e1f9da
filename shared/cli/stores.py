"""`deploy prepare`: the control database and the tenants' at the version of this code; and where the stores are.

Addresses are `DCODER_*` variables, and what these lack is told by the host that runs in DCODER_HOME.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import click

from shared.cli.failures import Failed, Missing
from shared.cli.output import Result, command, say
from shared.cli.readiness import wait
from shared.host.home import Home, ensure_keys, find_home
from shared.host.ports import LOOPBACK
from shared.host.stack import ADMIN_URL

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.manifest import Manifest
    from shared.settings import Settings

STORE_SETTINGS = (
    "DCODER_POSTGRES_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_ACCESS_KEY", "DCODER_OBJECTS_SECRET_KEY",
)  # fmt: skip
FURTHER_SERVERS = "DCODER_POSTGRES_SERVERS"

UNUSED = dict.fromkeys(
    ("DCODER_REDIS_URL", "DCODER_NATS_URL", "DCODER_OBJECTS_URL", "DCODER_OBJECTS_ACCESS_KEY",
     "DCODER_OBJECTS_SECRET_KEY", "DCODER_PLATFORM_URL", "DCODER_LLM_URL"),
    "unused",
)  # fmt: skip
"""`Settings` wants every variable, and preparing asks PostgreSQL alone."""

keys_option = click.option(
    "--keys", type=click.Path(path_type=Path), help="Folder of the key files; default: those of DCODER_HOME."
)


def store_settings(home: Home) -> dict[str, str]:
    """The stores' addresses by the names of their variables; empty where nobody told one."""
    told = home.read("host.json").get("environment")
    host = cast("Mapping[str, str]", told) if isinstance(told, Mapping) else {}
    from knative.secrets import TLS_FILES

    wanted = (*STORE_SETTINGS, FURTHER_SERVERS, *TLS_FILES)
    return {name: os.environ.get(name) or str(host.get(name, "")) for name in wanted}


def secrets_of(environment: Environment, keys: Path | None, settings: Mapping[str, str]) -> tuple[Manifest, ...]:
    """Functions get PgBouncer's address where there is one, and it gets PostgreSQL's."""
    from knative.base import pgbouncer
    from knative.secrets import key, manifests

    folder, postgres = keys or find_home().secrets, settings["DCODER_POSTGRES_URL"]
    if environment.pgbouncer is None or not postgres:
        return manifests(environment, folder, settings)
    pooled = {**settings, "DCODER_POSTGRES_URL": pgbouncer.pooled_url(environment, postgres)}
    own = pgbouncer.confidential(environment, key(folder, "root"), postgres)
    return (*manifests(environment, folder, pooled), *own)


def prepared(
    cluster: Kubectl, environment: Environment, manifests: Sequence[Manifest], *, keys: Path | None, wait_s: int
) -> tuple[Manifest, ...]:
    """The Secrets, once the stores answer and the databases are at the version of this code."""
    home = find_home()
    need_certificate(cluster, environment)
    if not environment.pods:
        settings = store_settings(home)
        prepare_stores(home, keys, settings, os.environ.get(ADMIN_URL, ""))
        administrator = os.environ.get(ADMIN_URL) or own_administrator(home, settings)
        prepare_pgbouncer(environment, keys or home.secrets, settings["DCODER_POSTGRES_URL"], administrator)
        confidential = secrets_of(environment, keys, settings)
    else:
        confidential = with_pods(cluster, environment, manifests, home=home, keys=keys, wait_s=wait_s)
    say("✓ the databases are at the version of this code")
    return confidential


def need_certificate(cluster: Kubectl, environment: Environment) -> None:
    """Raises `Missing` before anything is changed."""
    from knative.secrets import TLS_FILES

    name = environment.tls_secret
    if name is None or any(os.environ.get(one) for one in TLS_FILES):
        return
    if cluster.one("secret", name, environment.namespace) is None:
        hosts = " and ".join(f"{label}.{environment.domain}" for label in ("platform", "llm"))
        raise Missing(
            f"namespace {environment.namespace!r} has no Secret {name!r} with the certificate of {hosts}",
            why="nothing was changed",
            fix=f"{TLS_FILES[0]}=chain.pem {TLS_FILES[1]}=key.pem, or kubectl create secret tls {name}",
        )


def with_pods(
    cluster: Kubectl,
    environment: Environment,
    manifests: Sequence[Manifest],
    *,
    home: Home,
    keys: Path | None,
    wait_s: int,
) -> tuple[Manifest, ...]:
    """Start the stores that are pods, and prepare the databases through a forwarded port."""
    from knative.base import confidential as own
    from shared.host.home import store_secrets

    home.prepare()
    need_home(cluster, environment, home)
    ensure_keys(home)
    kept = store_secrets(home)
    settings = {**store_settings(home), **own.settings(environment, kept)}
    secrets = (*own.manifests(environment, kept), *secrets_of(environment, keys, settings))
    start_pods(cluster, environment, manifests, secrets, wait_s)
    if "nats" in environment.pods:
        tell_broker(cluster, own.nats_url(environment, kept), wait_s)
    if "postgres" not in environment.pods:
        prepare_stores(home, keys, settings, os.environ.get(ADMIN_URL, ""))
        administrator = os.environ.get(ADMIN_URL) or own_administrator(home, settings)
        prepare_pgbouncer(environment, keys or home.secrets, settings["DCODER_POSTGRES_URL"], administrator)
        return secrets
    with cluster.forwarded("service/postgres", environment.postgres.port, environment.namespace) as port:
        here = own.platform_url(environment, kept, LOOPBACK, port)
        administrator = own.administrator_url(kept, LOOPBACK, port)
        prepare_stores(home, keys, {**settings, "DCODER_POSTGRES_URL": here}, administrator)
        prepare_pgbouncer(environment, keys or home.secrets, here, administrator)
    return secrets


def own_administrator(home: Home, settings: Mapping[str, str]) -> str:
    """Of the embedded server that runs in DCODER_HOME; empty where the server is another."""
    from knative.base.confidential import administrator_url
    from shared.host.home import store_secrets

    if os.environ.get("DCODER_POSTGRES_URL") or not home.read("host.json"):
        return ""
    server = urlsplit(settings["DCODER_POSTGRES_URL"])
    return administrator_url(store_secrets(home), str(server.hostname), server.port or 5432)


def prepare_pgbouncer(environment: Environment, folder: Path, postgres_url: str, administrator: str) -> None:
    """The role by which PgBouncer looks up the others', where there is one. Raises `Missing`."""
    from knative.base.pgbouncer import password
    from knative.secrets import key
    from shared.host import pooler

    if environment.pgbouncer is None:
        return
    own, database = password(key(folder, "root")), urlsplit(postgres_url).path.lstrip("/")
    if administrator:
        asyncio.run(pooler.prepare_pooler(administrator, database, own))
    elif not asyncio.run(pooler.is_prepared(postgres_url, own)):
        raise Missing(
            f"PostgreSQL has no role {pooler.ROLE!r}, by which PgBouncer looks up passwords",
            why="only a superuser can make it",
            fix=f"give the superuser's address once: {ADMIN_URL}",
        )


def need_home(cluster: Kubectl, environment: Environment, home: Home) -> None:
    """Raises `Missing` when the pods were made with passwords that are not here."""
    there = [name for name in environment.pods if cluster.one("secret", f"{name}-pod", environment.namespace)]
    if there and not home.read("secrets/stores.json"):
        raise Missing(
            f"{home.secrets} has no passwords for the stores of namespace {environment.namespace!r}",
            why="they were made by a deployment from another DCODER_HOME",
            fix="DCODER_HOME of the machine that deployed it, or without --secrets",
        )


def start_pods(
    cluster: Kubectl,
    environment: Environment,
    manifests: Sequence[Manifest],
    secrets: Sequence[Manifest],
    wait_s: int,
) -> None:
    from knative import apply, stamps

    pods = [one for one in manifests if one["metadata"]["name"] in environment.pods]
    marked = stamps.stamped(pods, stamps.values_of(secrets), environment)
    apply.apply(cluster, (manifests[0], *secrets, *marked), dry_run=False)
    wait(cluster, environment, marked, wait_s)
    say(f"✓ the pods of {', '.join(environment.pods)} are ready")


def tell_broker(cluster: Kubectl, nats_url: str, wait_s: int) -> None:
    """The parts that serve the Broker class, where NATS is. The address holds a token: through standard input only."""
    from knative import jetstream

    config, patch = jetstream.told(nats_url)
    cluster.apply([config])
    where = ("--namespace", jetstream.BROKER_NAMESPACE, "--patch-file=/dev/stdin")
    cluster.run("patch", "deployment", jetstream.INGRESS, *where, given=json.dumps(patch))
    deployments = [f"deployment/{name}" for name in jetstream.DEPLOYMENTS]
    # The controller reads its file at the start, and ends where it cannot connect.
    cluster.run("rollout", "restart", "--namespace", jetstream.BROKER_NAMESPACE, deployments[0])
    for one in deployments:
        cluster.run(
            "rollout", "status", f"--timeout={min(wait_s, 100)}s", "--namespace", jetstream.BROKER_NAMESPACE, one
        )
    say("✓ the Broker keeps its events in NATS")


def prepare_stores(home: Home, keys: Path | None, settings: Mapping[str, str], administrator: str) -> Result:
    """Bring the databases behind `DCODER_POSTGRES_URL` up to date. Safe to repeat. Raises `Missing` and `Failed`."""
    from shared.host.control import prepare
    from shared.postgres import refusals
    from shared.settings import Settings

    if not settings["DCODER_POSTGRES_URL"]:
        raise Missing(
            "DCODER_POSTGRES_URL is not set, and no host runs in DCODER_HOME that would tell",
            fix="DCODER_POSTGRES_URL=postgresql://dcoder:password@host:5432/dcoder, as docs/how-to/deploy.md says",
        )
    home.prepare()
    given = {**UNUSED, **{name: value for name, value in settings.items() if value}}
    place = Settings.from_environment({**given, "DCODER_SECRETS_DIR": str(keys or home.secrets)})
    try:
        if keys is None:
            make_keys(home, place, administrator)
        outcome = asyncio.run(prepare(place, administrator, home))
    except refusals() as refused:  # what is refused to a role, not a server that is away
        raise Failed(
            f"PostgreSQL refuses: {refused}",
            why="the role, its database or pgvector is not as docs/how-to/servers.md says",
            fix=f"prepare the server as it says there, or give the superuser's address once: {ADMIN_URL}",
        ) from refused
    for kind, failed in (("tenant", outcome["failed_tenants"]), ("PostgreSQL server", outcome["failed_servers"])):
        for one in failed:
            say(f"! {kind} {one} could not be brought up to date; the next run tries it again")
    return {"ok": True, **outcome}


def make_keys(home: Home, settings: Settings, administrator: str) -> None:
    """The five key files, unless the database was sealed with others."""
    from shared.host.control import holds_tables
    from shared.host.home import KEY_NAMES

    missing = [name for name in KEY_NAMES if not (home.secrets / f"{name}.key").exists()]
    in_use: bool = bool(missing) and asyncio.run(holds_tables(settings, administrator))
    if in_use:
        raise Missing(
            f"{home.secrets} lacks {', '.join(f'{name}.key' for name in missing)}",
            why="the control database is in use, so what is in it was sealed with keys that are elsewhere",
            fix="give their folder with --keys, or DCODER_HOME of the machine that deployed it",
        )
    ensure_keys(home)


@command(lambda result: "the databases are at the version of this code", name="prepare")
@keys_option
def prepare_command(keys: Path | None) -> Result:
    """Create or migrate the control database, then the tenants' by waves. Safe to repeat, and before every upgrade.

    DCODER_POSTGRES_URL is the platform's role there; DCODER_POSTGRES_ADMIN_URL, if set, a superuser who makes it.
    """
    home = find_home()
    return prepare_stores(home, keys, store_settings(home), os.environ.get(ADMIN_URL, ""))
