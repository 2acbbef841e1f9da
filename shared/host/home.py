"""What the host keeps below `$DCODER_HOME`: data, logs, secrets, and who runs where.

data/       one folder a server          logs/       one file a process
secrets/    32-byte keys, passwords of the servers (stores.json), virtual keys for the command line (keys.json)
own/        keys of the processes that serve one tenant alone         bundles/   what tenants' own functions are given
host.json   the running host             children.json   its processes        ports.json   ports of the last run
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shared.errors import Conflict, Fault
from shared.host.children import Trace
from shared.host.files import private_directory, write_private

KEY_NAMES = ("root", "tokens", "audit", "pepper", "hooks")
KEY_BYTES = 32


@dataclass(frozen=True)
class StoreSecrets:
    """Passwords of the embedded servers, made at the first start."""

    postgres: str = field(repr=False)
    control: str = field(repr=False)
    nats: str = field(repr=False)
    redis: str = field(repr=False)
    objects_access_key: str
    objects_secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Home:
    """The state directory of one stack."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def bundles(self) -> Path:
        """What the processes of tenants' own functions are given: one folder a revision."""
        return self.path / "bundles"

    @property
    def progress(self) -> Path:
        """What the last start did, one JSON object a line."""
        return self.logs / "progress.jsonl"

    def prepare(self) -> None:
        """Create the directories, private to their owner."""
        for folder in (self.path, self.data, self.logs, self.secrets):
            private_directory(folder)

    def read(self, name: str) -> dict[str, object]:
        """A JSON file of the home; empty when there is none."""
        try:
            found: object = json.loads((self.path / name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, content: Mapping[str, object]) -> None:
        private_directory((self.path / name).parent)
        write_private(self.path / name, json.dumps(content, indent=2) + "\n")

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def own_secrets(self, tenant: str, function: str) -> Path:
        """The folder of the keys that a tenant's own process for a function holds."""
        return self.path / "own" / f"{tenant}--{function}"

    def forget_own(self, tenant: str, function: str) -> None:
        shutil.rmtree(self.own_secrets(tenant, function), ignore_errors=True)

    def host(self) -> Trace | None:
        """The running host, or None."""
        record = self.read("host.json")
        if not isinstance(record.get("pid"), int):
            return None
        found = Trace(int(str(record["pid"])), str(record.get("process_started", "")))
        return found if found.running else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be this home's only host. Raises `Conflict` when another one is."""
        private_directory(self.path)
        with (self.path / "host.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as held:
                raise Conflict(f"another host runs on {self.path}. `dcoder status` shows it") from held
            yield

    @contextmanager
    def wait_for_turn(self) -> Iterator[None]:
        """Be the only command that starts a host here, waiting for the one before."""
        with (self.path / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def wipe(self) -> None:
        """Remove everything the host put here, and the directory itself when nothing else is in it."""
        for name in ("data", "logs", "secrets", "own", "bundles", "checkpoints", "cache"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("host.json", "children.json", "ports.json", "host.lock", "up.lock"):
            self.remove(name)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def find_home(environment: Mapping[str, str] = os.environ) -> Home:
    """`$DCODER_HOME`, by default `dcoder` in the XDG state directory."""
    chosen = environment.get("DCODER_HOME", "")
    if chosen:
        return Home(Path(chosen).expanduser().absolute())
    state = environment.get("XDG_STATE_HOME", "") or "~/.local/state"
    return Home(Path(state).expanduser() / "dcoder")


def ensure_keys(home: Home) -> None:
    """Make the five key files. Raises `Fault` rather than make a key anew beside data that the lost one sealed."""
    for name in KEY_NAMES:
        path = home.secrets / f"{name}.key"
        if path.exists():
            continue
        if (home.data / "postgres" / "data").exists():
            raise Fault(
                f"{path} is missing, and {home.data} was sealed with it. Restore the file from your backup, "
                f"or start anew with `dcoder down --wipe`"
            )
    for name in KEY_NAMES:
        write_key(home.secrets / f"{name}.key")


def write_key(path: Path) -> None:
    """32 random bytes, mode 0600, never overwriting."""
    if path.exists():
        return
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        target.write(secrets.token_bytes(KEY_BYTES))
    fresh.replace(path)


def store_secrets(home: Home) -> StoreSecrets:
    """The servers' passwords, the same at every start."""
    kept = home.read("secrets/stores.json")
    if not kept:
        if (home.data / "postgres" / "data").exists():
            raise Fault(
                f"{home.secrets / 'stores.json'} is missing, so {home.data} cannot be opened. Restore it from your "
                f"backup, or start anew with `dcoder down --wipe`"
            )
        made = StoreSecrets(
            postgres=secrets.token_hex(24),
            control=secrets.token_hex(24),
            nats=secrets.token_hex(24),
            redis=secrets.token_hex(24),
            objects_access_key=secrets.token_hex(10),
            objects_secret_key=secrets.token_hex(24),
        )
        home.write("secrets/stores.json", asdict(made))
        return made
    return StoreSecrets(**{name: str(value) for name, value in kept.items()})
