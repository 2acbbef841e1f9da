"""A whole stack, as a person runs it with the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.host.home import KEY_NAMES
from shared.host.stack import ROOT
from tests.fixtures.servers import scratch_directory
from tests.fixtures.stack import Cli, stack, wait_until

PROMISED = (
    "platform_url",
    "llm_url",
    "objects_url",
    "objects_access_key",
    "objects_secret_key",
    "objects_bucket",
    "tenant",
    "tenant_key",
    "admin_key",
    "started_in_s",
)
DEEP = "a-state-directory-whose-path-is-longer-than-a-unix-socket-allows/" * 2 + "home"
Up = dict[str, Any]  # Any: a JSON document


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Cli, Up]]:
    with stack(below=DEEP) as started:
        yield started


def argv_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    open_files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return {target.removeprefix("socket:[").rstrip("]") for target in open_files if target.startswith("socket:[")}


def test_up_promises_where_everything_is(up: tuple[Cli, Up]) -> None:
    _, started = up
    assert all(started[name] for name in PROMISED)
    assert started["tenant"] == "demo"
    assert started["objects_bucket"] == "dcoder-demo"


def test_up_again_is_the_same_stack(up: tuple[Cli, Up]) -> None:
    cli, started = up
    assert cli.json("up", "--detach") == started
    assert cli.json("up") == started
    assert cli.run("up").stderr == ""


def test_doctor_finds_everything_well(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    assert all(row["well"] for row in cli.json("doctor")["findings"])


def test_no_secret_is_in_any_command_line(up: tuple[Cli, Up]) -> None:
    cli, started = up
    secrets = [str(value) for value in cli.home.read("secrets/stores.json").values()]
    secrets += [started["tenant_key"], started["admin_key"]]
    secrets += [(cli.home.secrets / f"{name}.key").read_bytes().hex() for name in KEY_NAMES]
    for process in cli.children().values():
        assert not any(secret in argv_of(process.pid) for secret in secrets)


def test_every_listening_port_is_on_the_loopback_interface(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    host = cli.home.read("host.json")["pid"]  # holds the sockets of those whom a first call starts
    assert isinstance(host, int)
    pids = [host, *(child.pid for child in cli.children().values())]
    ours = {inode for pid in pids for inode in sockets_of(pid)}
    listening = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = fields = line.split()
        address, port = local.split(":")
        if state == "0A" and fields[9] in ours:
            assert address == "0100007F"
            listening.add(int(port, 16))
    assert listening >= set(cli.home.read("ports.json").values())


def test_a_tenants_life_by_command_line(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    assert cli.json("tenant", "add", "acme")["key"].startswith("dck_")
    assert cli.json("tenant", "add", "acme")["key"] is None
    assert len(cli.json("key", "ls", "--tenant", "acme")["keys"]) == 1
    assert {"acme", "demo"} <= {row["name"] for row in cli.json("tenant", "ls")["tenants"]}
    cli.json("tenant", "rm", "acme", "--yes")
    assert "acme" not in {row["name"] for row in cli.json("tenant", "ls")["tenants"]}


def test_a_keys_life_by_command_line(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    made = cli.json("key", "create", "--role", "viewer", "--name", "ci", "--days", "3")
    turned = cli.json("key", "rotate", made["id"])
    assert turned["key"] != made["key"]
    cli.json("key", "revoke", turned["id"])
    rows = {row["id"]: row for row in cli.json("key", "ls")["keys"]}
    assert rows[turned["id"]]["revoked_at"]
    assert "key" not in rows[turned["id"]]


def test_the_key_that_the_command_line_presents_follows_rotation_and_revocation(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    cli.json("tenant", "add", "turning")
    first = cli.json("key", "ls", "--tenant", "turning")["keys"][0]["id"]
    turned = cli.json("key", "rotate", first, "--tenant", "turning", "--overlap", "0")
    assert cli.json("usage", "--tenant", "turning")["total"]["calls"] == 0
    cli.json("key", "revoke", turned["id"], "--tenant", "turning")
    assert cli.run("usage", "--tenant", "turning").returncode == 3
    cli.json("key", "create", "--tenant", "turning")
    assert cli.json("usage", "--tenant", "turning")["total"]["calls"] == 0


def test_a_refusal_of_the_platform_is_told_in_one_document(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    done = cli.run("tenant", "add", "Not A Name", "--json")
    assert done.returncode == 1
    assert "not a tenant name" in json.loads(done.stdout)["error"]["message"]


def test_the_audit_log_of_what_was_done_verifies(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    verified = cli.json("audit", "verify", "--tenant", "platform")
    assert verified["ok"]
    assert verified["records"] > 0


def test_an_altered_export_does_not_verify(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    export = cli.path / "export.jsonl"
    cli.json("audit", "verify", "--tenant", "platform", "--save", str(export))
    lines = export.read_text().splitlines()
    record = next(number for number, line in enumerate(lines) if json.loads(line)["kind"] == "record")
    del lines[record]
    export.write_text("\n".join(lines) + "\n")
    done = cli.run("audit", "verify", str(export), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False


def test_a_tenants_export_by_command_line(up: tuple[Cli, Up], tmp_path: Path) -> None:
    cli, _ = up
    file = tmp_path / "demo.tar"
    made = cli.json("tenant", "export", "demo", "--to", str(file))
    assert (made["ok"], made["bytes"], file.stat().st_mode & 0o777) == (True, file.stat().st_size, 0o600)
    again = cli.run("tenant", "export", "demo", "--to", str(file), "--json")
    assert (again.returncode, json.loads(again.stdout)["error"]["fix"].endswith("--force")) == (2, True)
    assert cli.json("tenant", "export", "demo", "--to", str(file), "--force")["ok"]
    elsewhere = Cli(tmp_path / "no-stack-here")
    checked = elsewhere.json("tenant", "verify", str(file), "--public-key", made["public_key"])
    assert (checked["ok"], checked["tenant"]) == (True, "demo")
    file.write_bytes(file.read_bytes()[:-2000])
    cut = elsewhere.run("tenant", "verify", str(file), "--json")
    assert (cut.returncode, json.loads(cut.stdout)["ok"]) == (1, False)
    assert cli.run("tenant", "export", "nobody-here", "--to", str(tmp_path / "none.tar")).returncode == 1
    assert [one.name for one in tmp_path.iterdir()] == ["demo.tar"]


def test_logs_and_status_name_every_process(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    named = {"postgres", "nats", "redis", "objects", "platform", "gateway"}
    assert named <= set(cli.json("logs")["logs"])
    assert named <= {row["name"] for row in cli.json("status")["processes"] if row["running"]}


def test_two_stacks_run_side_by_side(up: tuple[Cli, Up]) -> None:
    cli, started = up
    with stack() as (second, other):
        assert other["platform_url"] != started["platform_url"]
        assert other["tenant_key"] != started["tenant_key"]
        assert second.json("doctor")["ok"]
        assert cli.json("doctor")["ok"]
        assert status_of(f"{other['platform_url']}/v1/tenants", started["admin_key"]) == 401


def test_one_function_runs_alone_against_the_stack(up: tuple[Cli, Up]) -> None:
    cli, started = up
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = subprocess.Popen(
        cli.command("functions", "run", "governance-tenants", "--port", str(port)),
        cwd=ROOT,
        env=cli.surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}/v1/tenants", started["admin_key"]) == 200)
    finally:
        os.killpg(alone.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
        alone.wait(timeout=20)


def status_of(url: str, key: str) -> int:
    """The status of a GET with the key; 0 when nothing answers."""
    try:
        return httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=10).status_code
    except httpx.TransportError:
        return 0


def test_ctrl_c_leaves_nothing_running_and_data_survives() -> None:
    with scratch_directory() as folder, socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        taken = occupied.getsockname()[1]
        cli = Cli(folder / "home", {"DCODER_PLATFORM_PORT": str(taken)})
        front = in_front(cli)
        assert str(taken) in front.stderr_so_far
        cli.json("tenant", "add", "kept")
        children = cli.children()
        front.process.send_signal(signal.SIGINT)
        assert front.process.wait(timeout=30) == 0
        assert not any(child.running for child in children.values())
        try:
            cli.json("up", "--detach", "--no-handbook")
            assert "kept" in {row["name"] for row in cli.json("tenant", "ls")["tenants"]}
        finally:
            cli.json("down", "--wipe")
        assert not cli.path.exists()


class Front:
    """A stack in the foreground, ready."""

    def __init__(self, process: subprocess.Popen[str], stderr_so_far: str) -> None:
        self.process = process
        self.stderr_so_far = stderr_so_far


def in_front(cli: Cli) -> Front:
    """Start `dcoder up` in the foreground and read on until it says how to stop it."""
    process = subprocess.Popen(
        cli.command("up", "--no-handbook"),
        cwd=ROOT,
        env=cli.surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "Ctrl-C" in line:
            return Front(process, said)
    raise AssertionError(f"the stack did not start: {said}")
