"""What makes up a local stack: which servers are embedded, on which ports, and what the functions are told of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import Invalid
from shared.host import probes
from shared.host.children import Command
from shared.host.home import Home, StoreSecrets, store_secrets
from shared.host.ports import ANYWHERE, LOOPBACK, free_port, is_free
from shared.host.seaweed import Seaweed, SeaweedPorts
from shared.host.servers import Nats, Postgres, Server, Valkey

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = "gateway-llm"
TRANSLATE = "gateway-translate"
CONTROL = "dcoder"
LISTENER = "DCODER_LISTENER"
"""Number of the inherited listening socket."""
STORES_ONLY = "DCODER_STORES_ONLY"
"""`true`: start the stores and prepare the control database, but no functions."""
ADMIN_URL = "DCODER_POSTGRES_ADMIN_URL"
WANTED_PORTS: Mapping[str, int] = {
    "platform": 8000,
    "gateway": 4000,
    "translate": 4001,
    "objects": 8333,
    "postgres": 15432,
    "nats": 14222,
    "redis": 16379,
    "objects_filer": 18888,
    "objects_volume": 18080,
    "objects_master": 19333,
    "objects_grpc": 28333,
    "objects_filer_grpc": 28888,
    "objects_volume_grpc": 28080,
    "objects_master_grpc": 29333,
}
FUNCTION_PORTS = ("platform", "gateway", "translate")
NAMED_PORTS = ("platform", "gateway", "objects")
"""Those people type: a replaced one is said."""
REPLACEABLE: Mapping[str, str] = {
    "postgres": "DCODER_POSTGRES_URL",
    "nats": "DCODER_NATS_URL",
    "redis": "DCODER_REDIS_URL",
    "objects": "DCODER_OBJECTS_URL",
}


@dataclass(frozen=True)
class PythonChild:
    """A Python process of ours: the platform, the gateway, or one that serves a single tenant."""

    name: str
    module: str
    port: int
    listener: int
    """The descriptor of its listening socket, which the host keeps open."""
    environment: Mapping[str, str] = field(repr=False)

    def prepare(self) -> None:
        """Nothing to prepare: it opens what it needs at first use."""

    def command(self) -> Command:
        return Command(
            (sys.executable, "-P", "-m", self.module),
            ROOT,
            python_environment({**self.environment, LISTENER: str(self.listener)}),
            descriptors=(self.listener,),
            orphan_signal=signal.SIGKILL,  # its servers end with the host, so there is nothing to end gracefully with
        )

    def healthy(self) -> bool:
        return probes.http_status(self.port, "/health/ready") == 200

    def alive(self) -> bool:
        """Whether it answers at all: not being ready is no reason to restart it."""
        return probes.http_status(self.port, "/health/live") == 200

    def tidy(self) -> None:
        """Nothing: it keeps no files."""


@dataclass(frozen=True)
class PythonScript:
    """A module of ours that runs to its end."""

    name: str
    module: str
    environment: Mapping[str, str] = field(repr=False)
    arguments: tuple[str, ...] = ()

    def command(self) -> Command:
        argv = (sys.executable, "-P", "-m", self.module, *self.arguments)
        return Command(argv, ROOT, python_environment(self.environment))


@dataclass(frozen=True)
class Stack:
    """One planned stack. `servers` are the embedded ones; `moved` says which named ports were taken."""

    home: Home
    ports: Mapping[str, int]
    servers: tuple[Server, ...]
    environment: Mapping[str, str] = field(repr=False)
    """`DCODER_*` for the functions."""
    admin_postgres_url: str = field(repr=False, default="")
    """The superuser's address of the embedded PostgreSQL; empty when it is replaced."""
    moved: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stores_only: bool = False
    """Whether functions run elsewhere, on a cluster."""
    host: str = LOOPBACK
    """Where the servers listen."""

    def taken_ports(self) -> list[int]:
        """Those on which a server of this stack could not listen now, each judged at the address that it would have."""
        return [port for name, port in self.ports.items() if not is_free(port, place_of(name, self.host))]

    @property
    def platform_url(self) -> str:
        return self.environment["DCODER_PLATFORM_URL"]

    @property
    def llm_url(self) -> str:
        return self.environment["DCODER_LLM_URL"]

    def control_script(self) -> PythonScript:
        """Creates and migrates the control database and makes the operator's key."""
        administrator = {ADMIN_URL: self.admin_postgres_url}
        return PythonScript("control", "shared.host.control", {**self.environment, **administrator})

    def welcome_script(self) -> PythonScript:
        """Makes the demo tenant, its key and its first answer."""
        return PythonScript("welcome", "shared.cli.welcome", self.environment)

    def functions(self, listeners: Mapping[str, int]) -> tuple[PythonChild, PythonChild]:
        """The two processes that run functions, each with the descriptor of its listening socket."""
        return (
            PythonChild(
                "platform",
                "shared.host.platform",
                self.ports["platform"],
                listeners["platform"],
                {**self.environment, "DCODER_FUNCTION": ",".join(platform_functions())},
            ),
            PythonChild(
                "gateway",
                "shared.host.gateway",
                self.ports["gateway"],
                listeners["gateway"],
                {**self.environment, "DCODER_FUNCTION": GATEWAY, "DCODER_CONNECTIONS_MAX": "8"},
            ),
        )


def python_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a Python child needs besides: the root on its path, output unbuffered, few malloc arenas."""
    return {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **environment}


def platform_functions(root: Path = ROOT) -> list[str]:
    """Every function but the gateway and its translator, which have processes of their own."""
    folders = sorted(path.parent for path in root.glob("functions/*/*/function.py"))
    names = [f"{folder.parent.name}-{folder.name}".replace("_", "-") for folder in folders]
    return [name for name in names if name not in (GATEWAY, TRANSLATE)]


def listen_address(outside: Mapping[str, str]) -> str:
    """Where the stores listen: `DCODER_LISTEN`, an IPv4 address of this machine, for functions on a cluster."""
    text = outside.get("DCODER_LISTEN", "") or LOOPBACK
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise Invalid(f"DCODER_LISTEN={text!r} is not an IPv4 address") from None


def plan(home: Home, outside: Mapping[str, str] = os.environ) -> Stack:
    """Choose ports and put the stack together. Servers with a URL in `outside` are not embedded."""
    replaced = {name: outside[variable] for name, variable in REPLACEABLE.items() if outside.get(variable)}
    check_replaced(replaced, outside)
    host = listen_address(outside)
    ports = choose_ports(home, outside, host)
    kept = store_secrets(home)
    hook_token = read_hook_token(home)
    platform_url = f"http://{LOOPBACK}:{ports['platform']}"
    stores_only = outside.get(STORES_ONLY) == "true"
    hooks_origin = outside.get("DCODER_HOOKS_ORIGIN") or ("" if stores_only else platform_url)
    hook = Hook(f"{hooks_origin}/v1/hooks/seaweedfs" if hooks_origin else "", hook_token)
    embedded = embedded_servers(home, ports, kept, hook, host)
    postgres = embedded["postgres"]
    told = addresses(ports, kept, host)
    return Stack(
        home=home,
        ports=ports,
        servers=tuple(server for name, server in embedded.items() if name not in replaced),
        environment={
            **told,
            **{REPLACEABLE[name]: url for name, url in replaced.items()},
            **object_keys(kept, outside, told["DCODER_OBJECTS_URL"], replaced="objects" in replaced),
            "DCODER_PLATFORM_URL": platform_url,
            "DCODER_LLM_URL": f"http://{LOOPBACK}:{ports['gateway']}",
            "DCODER_TRANSLATE_URL": f"http://{LOOPBACK}:{ports['translate']}",
            "DCODER_SECRETS_DIR": str(home.secrets),
            "DCODER_HOME": str(home.path),
            "DCODER_POSTGRES_SERVERS": outside.get("DCODER_POSTGRES_SERVERS", ""),
            "DCODER_PRIVATE_PROVIDER_URLS": outside.get("DCODER_PRIVATE_PROVIDER_URLS", "true"),
            "DCODER_RESPONSES_DAYS": outside.get("DCODER_RESPONSES_DAYS", "30"),
        },
        admin_postgres_url=postgres.url if isinstance(postgres, Postgres) and "postgres" not in replaced else "",
        moved={
            name: (wanted_port(name, outside), ports[name])
            for name in NAMED_PORTS
            if ports[name] != wanted_port(name, outside)
        },
        stores_only=stores_only,
        host=host,
    )


def check_replaced(replaced: Mapping[str, str], outside: Mapping[str, str]) -> None:
    for name, url in replaced.items():
        if not urlsplit(url).hostname:
            raise Invalid(f"{REPLACEABLE[name]} is not a URL with a host")
    missing = [key for key in ("DCODER_OBJECTS_ACCESS_KEY", "DCODER_OBJECTS_SECRET_KEY") if not outside.get(key)]
    if "objects" in replaced and missing:
        raise Invalid(f"DCODER_OBJECTS_URL is set, so {' and '.join(missing)} must be set too")


def wanted_port(name: str, outside: Mapping[str, str]) -> int:
    """The port asked for with `DCODER_<NAME>_PORT`, or ours."""
    text = outside.get(f"DCODER_{name.upper()}_PORT", "")
    if not text:
        return WANTED_PORTS[name]
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Invalid(f"DCODER_{name.upper()}_PORT={text!r} is not a port number")
    return int(text)


def choose_ports(home: Home, outside: Mapping[str, str], host: str = LOOPBACK) -> dict[str, int]:
    """The ports of the last run where they are still free, else the usual ones, else the next free ones.

    A named port goes back to its usual number as soon as that is free.
    """
    last = home.read("ports.json")
    ports: dict[str, int] = {}
    for name in WANTED_PORTS:
        wanted = wanted_port(name, outside)
        before = last.get(name)
        if isinstance(before, int) and name not in NAMED_PORTS:
            wanted = before
        ports[name] = free_port(wanted, taken=ports.values(), host=place_of(name, host))
    home.write("ports.json", dict(ports))
    return ports


def place_of(name: str, host: str) -> str:
    """Where the port must be free. SeaweedFS names sockets in /tmp after its gRPC ports, whatever address it has.

    Two of them with one number answer each other's calls, and what one stores the other cannot read.
    """
    if name in FUNCTION_PORTS:
        return LOOPBACK
    return ANYWHERE if name.endswith("_grpc") else host


def read_hook_token(home: Home) -> str:
    from shared.identity import hook_token

    return hook_token((home.secrets / "hooks.key").read_bytes())


@dataclass(frozen=True)
class Hook:
    """Where the object store announces changes (nowhere when empty), and with which token."""

    url: str
    token: str = field(repr=False)


def embedded_servers(
    home: Home, ports: Mapping[str, int], kept: StoreSecrets, hook: Hook, host: str
) -> dict[str, Server]:
    return {
        "postgres": Postgres(home.data / "postgres", ports["postgres"], kept.postgres, host=host),
        "nats": Nats(home.data / "nats", ports["nats"], kept.nats, host=host),
        "redis": Valkey(home.data / "redis", ports["redis"], kept.redis, host=host),
        "objects": Seaweed(
            home.data / "objects",
            SeaweedPorts(
                s3=ports["objects"],
                s3_grpc=ports["objects_grpc"],
                filer=ports["objects_filer"],
                filer_grpc=ports["objects_filer_grpc"],
                volume=ports["objects_volume"],
                volume_grpc=ports["objects_volume_grpc"],
                master=ports["objects_master"],
                master_grpc=ports["objects_master_grpc"],
            ),
            access_key=kept.objects_access_key,
            secret_key=kept.objects_secret_key,
            hook_url=hook.url,
            hook_token=hook.token,
            host=host,
        ),
    }


def addresses(ports: Mapping[str, int], kept: StoreSecrets, host: str) -> dict[str, str]:
    return {
        "DCODER_POSTGRES_URL": f"postgresql://{CONTROL}:{kept.control}@{host}:{ports['postgres']}/{CONTROL}",
        "DCODER_NATS_URL": f"nats://{kept.nats}@{host}:{ports['nats']}",
        "DCODER_REDIS_URL": f"redis://:{kept.redis}@{host}:{ports['redis']}/0",
        "DCODER_OBJECTS_URL": f"http://{host}:{ports['objects']}",
    }


def object_keys(kept: StoreSecrets, outside: Mapping[str, str], own_url: str, *, replaced: bool) -> dict[str, str]:
    """The platform's own key, and how tenants get theirs."""
    names = ("DCODER_OBJECTS_ACCESS_KEY", "DCODER_OBJECTS_SECRET_KEY", "DCODER_OBJECTS_KEYS")
    if replaced:
        return {name: outside.get(name, "") for name in names}
    return dict(zip(names, (kept.objects_access_key, kept.objects_secret_key, own_url), strict=True))
