"""`doctor`: every part of the stack, asked whether it is well, and how to repair what is not."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.cli.client import DEMO, Client
from shared.cli.failures import Failed, typed
from shared.cli.output import Result, command, rows_of
from shared.host import probes
from shared.host.home import KEY_NAMES, Home, find_home
from shared.settings import named_servers

FREE_MIB_MIN = 512
CALL_TIMEOUT_S = 10.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` is the command that repairs it."""

    name: str
    well: bool
    detail: str
    fix: str = ""


def doctor_text(result: Result) -> str:
    lines = []
    for row in rows_of(result, "findings"):
        lines.append(f"  {'✓' if row['well'] else '✗'} {row['name']:<10} {row['detail']}")
        if not row["well"]:
            lines.append(f"      fix: {row['fix']}")
    lines.append("all well" if result["ok"] else "something is wrong")
    return "\n".join(lines)


@command(doctor_text, name="doctor")
def doctor_command() -> Result:
    """Look at the machine, the state directory, every server and both function processes."""
    home = find_home()
    findings = [*machine(home), *stack(home)]
    return {
        "ok": all(one.well for one in findings),
        "findings": [asdict(one) | {"fix": typed(one.fix)} for one in findings],
    }


def machine(home: Home) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", True, version)
    path = next(one for one in (home.path, *home.path.parents) if one.exists())
    free_mib = shutil.disk_usage(path).free // MIB
    yield Finding("disk", free_mib >= FREE_MIB_MIN, f"{free_mib} MiB free at {path}", "make room, then dcoder doctor")
    yield secrets(home)


def secrets(home: Home) -> Finding:
    """Whether every key that the data was sealed with is there, and nobody else can read them."""
    lost = [file.name for file in secret_files(home) if not file.exists()]
    if lost and (home.data / "postgres" / "data").exists():
        repair = f"restore it to {home.secrets} from your backup, or start anew: dcoder down --wipe"
        return Finding("secrets", False, f"missing: {', '.join(lost)}", repair)
    open_to_others = [
        file
        for file in home.secrets.glob("*")
        if stat.S_IMODE(file.stat().st_mode) & 0o077 or file.stat().st_uid != os.getuid()
    ]
    if open_to_others:
        names = " ".join(str(file) for file in open_to_others)
        return Finding("secrets", False, f"{len(open_to_others)} files can be read by others", f"chmod 600 {names}")
    return Finding("secrets", True, f"private, in {home.secrets}")


def secret_files(home: Home) -> list[Path]:
    return [*(home.secrets / f"{name}.key" for name in KEY_NAMES), home.secrets / "stores.json"]


def stack(home: Home) -> Iterator[Finding]:
    """The host and everything it runs; only the host's absence is told when it does not run."""
    host = home.host()
    if host is None:
        yield Finding("host", False, f"not running on {home.path}", "dcoder up --detach")
        return
    record = home.read("host.json")
    yield Finding("host", True, f"pid {host.pid}, {record.get('phase')}")
    environment = record.get("environment")
    told = {name: str(value) for name, value in (environment if isinstance(environment, dict) else {}).items()}
    ports = {name: int(str(port)) for name, port in home.read("ports.json").items()}
    yield from servers(told, lambda url: objects(url, ports, told))
    if not record.get("stores_only"):
        yield from functions(home, record)


def servers(environment: Mapping[str, str], objects: Callable[[str], bool]) -> Iterator[Finding]:
    for name, variable, probe in (
        ("postgres", "DCODER_POSTGRES_URL", postgres),
        ("nats", "DCODER_NATS_URL", nats),
        ("redis", "DCODER_REDIS_URL", redis),
        ("objects", "DCODER_OBJECTS_URL", objects),
    ):
        url = urlsplit(environment.get(variable, ""))
        where = f"{url.hostname}:{url.port}"
        well = probe(environment.get(variable, ""))
        yield Finding(name, well, f"{'answers' if well else 'does not answer'} at {where}", f"dcoder logs {name}")
    for name, address in named_servers(environment.get("DCODER_POSTGRES_SERVERS", "")).items():
        well, place = postgres(address), urlsplit(address)
        said = f"{'answers' if well else 'does not answer'} at {place.hostname}:{place.port or 5432}"
        yield Finding(f"postgres {name}", well, said, "start that server, or correct DCODER_POSTGRES_SERVERS")


def postgres(url: str) -> bool:
    parts = urlsplit(url)
    return probes.postgres(parts.port or 5432, parts.hostname or "")


def nats(url: str) -> bool:
    parts = urlsplit(url)
    return probes.nats(parts.port or 4222, parts.username or "", parts.hostname or "")


def redis(url: str) -> bool:
    parts = urlsplit(url)
    return probes.redis(parts.port or 6379, parts.password or "", parts.hostname or "")


def objects(url: str, ports: Mapping[str, int], environment: Mapping[str, str]) -> bool:
    """Whether the store answers; of the embedded one also whether it has a volume server to store on."""
    parts = urlsplit(url)
    if parts.port == ports.get("objects"):
        return probes.seaweed(
            host=parts.hostname or "",
            s3_port=ports["objects"],
            master_port=ports["objects_master"],
            access_key=environment["DCODER_OBJECTS_ACCESS_KEY"],
            secret_key=environment["DCODER_OBJECTS_SECRET_KEY"],
        )
    return probes.http_status(parts.port or 80, "/healthz", parts.hostname or "") in (200, 403, 404)


def functions(home: Home, record: Mapping[str, object]) -> Iterator[Finding]:
    """Both processes, each by a call that goes through identity, permission and the control database."""
    keys = home.read("secrets/keys.json")
    tenants = keys.get("tenants")
    demo = tenants.get(DEMO, "") if isinstance(tenants, dict) else ""
    platform = Client(str(record["platform_url"]), str(keys.get("admin_key", "")), CALL_TIMEOUT_S)
    gateway = Client(str(record["llm_url"]), str(demo), CALL_TIMEOUT_S)
    yield called("platform", lambda: f"{len(rows_of(platform.call('GET', '/v1/tenants').json(), 'tenants'))} tenants")
    yield called("gateway", lambda: f"{len(rows_of(gateway.call('GET', '/v1/models').json(), 'data'))} models")


def called(name: str, call: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, f"answers, {call()}")
    except Failed as failure:
        return Finding(name, False, f"{failure.what} {failure.why}".strip(), failure.fix or f"dcoder logs {name}")
