"""The servers that the host embeds: PostgreSQL, NATS with JetStream, SeaweedFS and Valkey, from PyPI wheels.

Each is a frozen value that knows its files, its command, its health and its address; `shared.host.children`
runs it. All listen on one address, 127.0.0.1 unless told otherwise, and ask for a secret, which is in a file of mode
0600, never in argv.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shared.host import probes
from shared.host.children import Command, own_for_unprivileged, spawn, surroundings, trace, without_root
from shared.host.children import end as end_process
from shared.host.files import private_directory, tail, write_private
from shared.host.ports import LOOPBACK
from shared.host.programs import postgres_binary, valkey_binary, wheel_script

START_TIMEOUT_S = 60.0
MIB = 1024 * 1024
ACCESS = "host all all all scram-sha-256\n"
"""PostgreSQL asks everybody for a password; who gets that far, the address at which it listens decides."""


class StartFailed(Exception):
    """A server did not come up. The message names its log."""


class Server(Protocol):
    """What the host knows of an embedded server."""

    @property
    def name(self) -> str: ...
    def prepare(self) -> None:
        """Write configuration and, the first time, create the data. Blocks; safe to call again."""

    def command(self) -> Command: ...
    def healthy(self) -> bool:
        """Whether it answers its own protocol with our credentials. Blocks for at most a second or two."""

    def tidy(self) -> None:
        """Remove what the stopped process left outside its home."""


@dataclass(frozen=True)
class Postgres:
    """PostgreSQL with pgvector: TCP only, scram passwords, data checksums, commits on disk when acknowledged.

    `durable=False` skips fsync: a test's data need not survive the machine, only the server.
    """

    home: Path
    port: int
    password: str = field(repr=False)
    durable: bool = True
    name: str = "postgres"
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """The superuser's address."""
        return f"postgresql://postgres:{self.password}@{self.host}:{self.port}/postgres"

    @property
    def data(self) -> Path:
        return self.home / "data"

    def prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            self._initialise()
        own_for_unprivileged(write_private(self.data / "pg_hba.conf", ACCESS))

    def _initialise(self) -> None:
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = write_private(self.home / "password", self.password)
        own_for_unprivileged(self.home)
        argv = (
            str(postgres_binary("initdb")), "--pgdata", str(fresh), "--username=postgres", f"--pwfile={password}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            "--data-checksums", *(() if self.durable else ("--no-sync",)),
        )  # fmt: skip
        command = Command(argv, self.home, {"LC_ALL": "C"}, unprivileged=True)
        done = subprocess.run(  # noqa: S603  our own initdb
            [*without_root(command), *argv],
            **surroundings(command),
            capture_output=True,
            text=True,
            check=False,
        )
        password.unlink()
        if done.returncode != 0:
            raise StartFailed(f"initdb could not create {fresh}: {done.stderr.strip()[-2000:]}")
        fresh.rename(self.data)

    def command(self) -> Command:
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",  # a path below a long state directory would exceed the socket limit
            "max_connections": 100,
            "shared_buffers": "48MB",
            "synchronous_commit": "on",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "max_wal_size": "512MB",
            "io_method": "sync",  # three I/O workers less in an idle stack
            "jit": "off",
            "max_parallel_workers": 2,
            "max_worker_processes": 4,
            "autovacuum_naptime": "30s",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        options = [option for key, value in settings.items() for option in ("-c", f"{key}={value}")]
        argv = (str(postgres_binary("postgres")), "-D", str(self.data), *options)
        # SIGINT is PostgreSQL's fast shutdown: sessions are cut, what was committed is kept, no recovery is needed.
        return Command(argv, self.home, {"LC_ALL": "C"}, signal.SIGINT, unprivileged=True)

    def healthy(self) -> bool:
        return self._listens() and probes.postgres(self.port, self.host)

    def _listens(self) -> bool:
        """Whether it is this server that has the port: its lock file ends with port … status."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return len(lines) >= 8 and lines[3] == str(self.port) and lines[7].strip() == "ready"

    def tidy(self) -> None:
        """Nothing: all is in its home."""


@dataclass(frozen=True)
class Nats:
    """NATS with JetStream on disk and one token."""

    home: Path
    port: int
    token: str = field(repr=False)
    name: str = "nats"
    host: str = LOOPBACK
    store_mib: int = 4096

    @property
    def url(self) -> str:
        return f"nats://{self.token}@{self.host}:{self.port}"

    @property
    def _configuration(self) -> Path:
        return self.home / "nats.json"

    def configuration(self) -> str:
        settings = {
            "server_name": "dcoder",
            "listen": f"{self.host}:{self.port}",
            "authorization": {"token": self.token},
            "max_payload": 4 * MIB,
            "jetstream": {
                "store_dir": str(self.home / "data"),
                "max_memory_store": 16 * MIB,
                "max_file_store": self.store_mib * MIB,
                "sync_interval": "1s",
            },
        }
        return json.dumps(settings, indent=2)

    def prepare(self) -> None:
        private_directory(self.home)
        write_private(self._configuration, self.configuration())

    def command(self) -> Command:
        argv = (str(wheel_script("nats-server")), "--config", str(self._configuration))
        return Command(argv, self.home, {"GOMEMLIMIT": "64MiB"})

    def healthy(self) -> bool:
        return probes.nats(self.port, self.token, self.host)

    def tidy(self) -> None:
        """Nothing: all is in its home."""


@dataclass(frozen=True)
class Valkey:
    """Valkey with a password and an append-only file."""

    home: Path
    port: int
    password: str = field(repr=False)
    name: str = "redis"
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    @property
    def _configuration(self) -> Path:
        return self.home / "valkey.conf"

    def prepare(self) -> None:
        private_directory(self.home)
        write_private(self._configuration, self.configuration())

    def configuration(self) -> str:
        """The text of its file. It holds the password."""
        lines = {
            "bind": self.host,
            "port": self.port,
            "requirepass": self.password,
            "dir": json.dumps(str(self.home)),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory": "128mb",
            "maxmemory-policy": "volatile-lru",
            "io-threads": 1,
        }
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    def command(self) -> Command:
        return Command((str(valkey_binary()), str(self._configuration)), self.home)

    def healthy(self) -> bool:
        return probes.redis(self.port, self.password, self.host)

    def tidy(self) -> None:
        """Nothing: all is in its home."""


class Started:
    """A started server: stop it, or use it as a context manager."""

    def __init__(self, server: Server, process: subprocess.Popen[bytes], command: Command) -> None:
        self.server = server
        self.process = process
        self._command = command

    def stop(self) -> None:
        """Stop in order, and by force when the grace is over."""
        end_process(trace(self.process.pid), self._command.stop_signal, grace_s=self._command.stop_grace_s)
        self.process.wait()
        self.server.tidy()


def start(server: Server, log: Path, *, timeout_s: float = START_TIMEOUT_S) -> Started:
    """Prepare and start a server, and wait until it is healthy. Raises `StartFailed` with the log's last lines."""
    server.prepare()
    command = server.command()
    process = spawn(command, log)
    started = Started(server, process, command)
    deadline = time.monotonic() + timeout_s
    while not server.healthy():
        if process.poll() is not None or time.monotonic() > deadline:
            started.stop()
            raise StartFailed(start_failure(server.name, process.returncode, log))
        time.sleep(0.02)
    return started


def start_failure(name: str, returncode: int | None, log: Path) -> str:
    how = "did not become healthy" if returncode is None else f"ended with status {returncode}"
    return f"{name} {how}; the end of {log}:\n{tail(log)}"
