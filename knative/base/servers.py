"""What each store runs: the names and the contract of the official images, which `dcoder image build --variant stores`
keeps too. Their files with passwords are Secrets, `knative/base/confidential.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knative.environment import Environment, Pod
from shared.host.home import StoreSecrets
from shared.host.seaweed import ENVIRONMENT as SEAWEED_ENVIRONMENT
from shared.host.seaweed import Seaweed, SeaweedPorts
from shared.host.servers import Nats, Valkey

ANYWHERE = "0.0.0.0"  # noqa: S104  of the pod; its NetworkPolicy says who reaches it
POSTGRES_DATA = "/var/lib/postgresql"
POSTGRES_FILES = "/etc/dcoder/postgres"
REDIS_FILES = "/etc/dcoder/redis"
NATS_FILES = "/etc/dcoder/nats"
STORED_SHARE = 0.9
"""Of NATS's volume, for its streams; its own books take the rest."""
OBJECTS_FILES = "/etc/seaweedfs"
DATA = "/data"
INITDB = "--encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --data-checksums"
POSTGRES_SETTINGS = {
    "listen_addresses": "*",
    "max_connections": 200,
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Server:
    """One store as a container: what it runs, where its files are, how to see that it answers."""

    name: str
    port: int
    pod: Pod
    command: tuple[str, ...]
    probe: Mapping[str, Any]  # Any: see Manifest
    data: str
    files: str
    """Where the Secret `<name>-pod` is mounted."""
    environment: Mapping[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ("/tmp",)  # noqa: S108  the pod's own volume
    stop_s: int = 60
    """PostgreSQL writes a checkpoint before it ends."""


def servers(environment: Environment) -> tuple[Server, ...]:
    """Those of the stores that are pods."""
    made = {"postgres": postgres, "redis": redis, "objects": objects, "nats": nats}
    return tuple(made[name](environment, pod) for name, pod in environment.pods.items())


def postgres(environment: Environment, pod: Pod) -> Server:
    port = environment.postgres.port
    settings = {"port": port, **POSTGRES_SETTINGS}
    return Server(
        name="postgres",
        port=port,
        pod=pod,
        command=("docker-entrypoint.sh", "postgres", *(f"--{key}={value}" for key, value in settings.items())),
        probe={"exec": {"command": ["pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]}},
        data=POSTGRES_DATA,
        files=POSTGRES_FILES,
        environment={
            "PGDATA": f"{POSTGRES_DATA}/data",
            "LC_ALL": "C",
            "POSTGRES_PASSWORD_FILE": f"{POSTGRES_FILES}/password",
            "POSTGRES_INITDB_ARGS": INITDB,
        },
        scratch=("/tmp", "/var/run/postgresql"),  # noqa: S108  the pod's own volumes
    )


def redis(environment: Environment, pod: Pod) -> Server:
    port = environment.redis.port
    return Server(
        name="redis",
        port=port,
        pod=pod,
        command=("valkey-server", f"{REDIS_FILES}/valkey.conf"),
        probe={"tcpSocket": {"port": port}},
        data=DATA,
        files=REDIS_FILES,
    )


def objects(environment: Environment, pod: Pod) -> Server:
    """SeaweedFS's other servers stay on the pod's own loopback address."""
    outside = {
        "dir": DATA,
        "s3.ip.bind": ANYWHERE,
        "s3.config": f"{OBJECTS_FILES}/s3.json",
        "s3.localSocket": "/tmp/s3.sock",  # noqa: S108  the pod's own volume
        "filer.localSocket": "/tmp/filer.sock",  # noqa: S108  the pod's own volume
    }
    options = {**seaweed(environment, "", "").options(), **outside}
    return Server(
        name="objects",
        port=environment.objects.port,
        pod=pod,
        command=("weed", "server", *(f"-{key}={value}" for key, value in options.items())),
        probe={"httpGet": {"path": "/healthz", "port": environment.objects.port}},
        data=DATA,
        files=OBJECTS_FILES,
        environment=SEAWEED_ENVIRONMENT,
        stop_s=5,  # all is on disk by then, and it would wait for its own open streams
    )


def nats(environment: Environment, pod: Pod) -> Server:
    port = nats_port(environment)
    return Server(
        name="nats",
        port=port,
        pod=pod,
        command=("nats-server", "--config", f"{NATS_FILES}/nats.json"),
        probe={"tcpSocket": {"port": port}},
        data=DATA,
        files=NATS_FILES,
        environment={"GOMEMLIMIT": f"{pod.memory_mib * 3 // 4}MiB"},
        stop_s=30,
    )


def nats_port(environment: Environment) -> int:
    assert environment.broker.jetstream is not None
    return environment.broker.jetstream.nats.port


def jetstream(environment: Environment, kept: StoreSecrets) -> Nats:
    store_mib = int(environment.pods["nats"].storage_gib * 1024 * STORED_SHARE)
    return Nats(Path(DATA), nats_port(environment), kept.nats, host=ANYWHERE, store_mib=store_mib)


def seaweed(environment: Environment, access_key: str, secret_key: str) -> Seaweed:
    inner = SeaweedPorts(
        s3=environment.objects.port, s3_grpc=18333, filer=8888, filer_grpc=18888, volume=8080, volume_grpc=18080,
        master=9333, master_grpc=19333,
    )  # fmt: skip
    return Seaweed(Path(DATA), inner, access_key, secret_key)


def valkey(environment: Environment, kept: StoreSecrets) -> Valkey:
    return Valkey(Path(DATA), environment.redis.port, kept.redis, host=ANYWHERE)
