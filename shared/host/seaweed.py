"""SeaweedFS as the stack's object store: its ports, its configuration, its sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from shared.host import probes
from shared.host.children import Command
from shared.host.files import private_directory, write_private
from shared.host.ports import LOOPBACK
from shared.host.programs import wheel_script

ENVIRONMENT = {"GOMEMLIMIT": "512MiB", "GOGC": "50"}


@dataclass(frozen=True)
class SeaweedPorts:
    """SeaweedFS is four servers in one process, each with an HTTP and a gRPC port; users see `s3` only."""

    s3: int
    s3_grpc: int
    filer: int
    filer_grpc: int
    volume: int
    volume_grpc: int
    master: int
    master_grpc: int


@dataclass(frozen=True)
class Seaweed:
    """SeaweedFS as an S3-compatible store that announces each change under /buckets to the platform's webhook."""

    home: Path
    ports: SeaweedPorts
    access_key: str
    secret_key: str = field(repr=False)
    hook_url: str = ""
    hook_token: str = field(default="", repr=False)
    name: str = "objects"
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.ports.s3}"

    def prepare(self) -> None:
        private_directory(self.home)
        (self.home / "data").mkdir(exist_ok=True)
        for name, text in self.configuration().items():
            write_private(self.home / name, text)

    def configuration(self) -> dict[str, str]:
        """File name → text. They hold the keys."""
        return {
            "s3.json": json.dumps(self._identities(), indent=2),
            "master.toml": "[master.volume_growth]\ncopy_1 = 1\n",
            "security.toml": self._security(),
            "notification.toml": self._notification(),
        }

    def _identities(self) -> dict[str, object]:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        return {"identities": [{"name": "dcoder", "credentials": credentials, "actions": ["Admin"]}]}

    def _security(self) -> str:
        """Keys that SeaweedFS's parts sign with, so that its inner ports refuse other users of the machine."""
        keys = {name: derived_secret(self.secret_key, name) for name in ("signing", "filer_signing")}
        return "".join(f'[jwt.{name}]\nkey = "{key}"\n[jwt.{name}.read]\nkey = "{key}"\n' for name, key in keys.items())

    def _notification(self) -> str:
        if not self.hook_url:
            return ""
        return (
            "[notification.webhook]\n"
            "enabled = true\n"
            f'endpoint = "{self.hook_url}"\n'
            f'bearer_token = "{self.hook_token}"\n'
            'event_types = ["create", "update", "delete", "rename"]\n'
            'path_prefixes = ["/buckets"]\n'
            "max_retries = 10\n"
            "backoff_seconds = 1\n"
        )

    def command(self) -> Command:
        options = self.options()
        argv = (str(wheel_script("weed")), "server", *(f"-{key}={value}" for key, value in options.items()))
        # Everything is on disk within 0.2 s of SIGTERM, but SeaweedFS then waits 15 s for its own open streams:
        # it gets 2 s, and as an orphan none, since it would keep its files locked against the next start.
        # Its log buffers count as memory without being touched: a lower limit has it collect garbage all the time.
        return Command(argv, self.home, ENVIRONMENT, stop_grace_s=2.0, orphan_signal=signal.SIGKILL)

    def options(self) -> dict[str, object]:
        """Of `weed server`."""
        ports = self.ports
        filer_socket, s3_socket = self._sockets()
        return {
            "ip": self.host,
            "ip.bind": self.host,
            "dir": self.home / "data",
            "idleTimeout": 30,
            "filer": "true",
            "filer.port": ports.filer,
            "filer.port.grpc": ports.filer_grpc,
            "filer.localSocket": filer_socket,
            "filer.exposeDirectoryData": "false",
            "s3": "true",
            "s3.port": ports.s3,
            "s3.port.grpc": ports.s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": s3_socket,
            "s3.config": self.home / "s3.json",
            "s3.iam": "true",
            "s3.iam.readOnly": "false",  # tenants' keys are made by its API; that asks for the platform's own key
            "s3.autoCreateBucket": "false",
            "master.port": ports.master,
            "master.port.grpc": ports.master_grpc,
            "master.telemetry": "false",
            "master.volumePreallocate": "false",
            "master.volumeSizeLimitMB": 1024,
            "master.electionTimeout": "1s",
            "volume.port": ports.volume,
            "volume.port.grpc": ports.volume_grpc,
            "volume.max": 10_000,  # a bucket keeps volumes of its own, and a volume takes only the space it uses
            "volume.index": "leveldb",
            "volume.preStopSeconds": 0,
        }

    def healthy(self) -> bool:
        return probes.seaweed(
            host=self.host,
            s3_port=self.ports.s3,
            master_port=self.ports.master,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )

    def tidy(self) -> None:
        """Sockets, whose folder SeaweedFS fixes for some: a path below a long state directory would not fit one."""
        ports = self.ports
        inner = {
            "master": ports.master_grpc,
            "volume": ports.volume_grpc,
            "filer": ports.filer_grpc,
            "s3": ports.s3_grpc,
        }
        fixed = [Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock") for part, port in inner.items()]  # noqa: S108
        for path in (*fixed, *self._sockets()):
            path.unlink(missing_ok=True)

    def _sockets(self) -> tuple[Path, Path]:
        folder = Path(tempfile.gettempdir())
        # Named after the ports that are this store's alone at every address of the machine.
        return folder / f"dcoder-filer-{self.ports.filer_grpc}.sock", folder / f"dcoder-s3-{self.ports.s3_grpc}.sock"


def derived_secret(secret: str, purpose: str) -> str:
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
