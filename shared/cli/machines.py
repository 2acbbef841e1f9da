"""`deploy up kind|k3s`: a cluster on this machine with Knative in it, before the steps that are the same everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.cli.cluster import cluster_of
from shared.cli.failures import Failed, Missing
from shared.cli.output import say

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.installation import Release
    from knative.kubectl import Kubectl
    from knative.machines import Command, Machine

COMMAND_TIMEOUT_S = 900
SAID_CHARS_MAX = 1500
IMAGE_NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a machine."""

    archive: Path | None
    """Of an image, to load onto the node."""
    mirror: str
    """Where the release files of Knative are."""


def need_programs(machine: Machine) -> None:
    """Raises `Missing` naming each program that is not on the PATH. Nothing is downloaded for it."""
    absent = {name: how for name, how in machine.programs.items() if shutil.which(name) is None}
    if absent:
        raise Missing(
            f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} needed and not on the PATH",
            why="programs are not downloaded for you; nothing was changed",
            fix="install " + "; ".join(f"{name}: {how}" for name, how in absent.items()),
        )


def image_of(archive: Path) -> str:
    """The name of the image in an archive that `dcoder image build` wrote. Raises `Failed`."""
    try:
        with tarfile.open(archive) as opened:
            index = opened.extractfile("index.json")
            assert index is not None
            return str(json.load(index)["manifests"][0]["annotations"][IMAGE_NAME])
    except (tarfile.TarError, OSError, KeyError, IndexError, ValueError) as broken:
        raise Failed(f"{archive} is not an image archive", why=repr(broken), fix="dcoder image build") from broken


def plan(machine: Machine, environment: Environment, wanted: Wanted) -> list[str]:
    """What `bring_up` would do, in its words. Nothing is changed. Raises `Missing` and `Fault`."""
    from knative import installation, machines

    need_programs(machine)
    there = machines.is_there(machine, run(machine.look))
    commands = [*([] if there else [machine.create]), *loads(machine, wanted)]
    releases = lacking(machine, environment, there=there)
    applied = [f"{installation.SCRIPT.name} apply: {name}" for one in releases for name in one.sha256]
    return [*(one.text() for one in commands), *applied]


def bring_up(machine: Machine, environment: Environment, wanted: Wanted) -> None:
    """The cluster, the image on it, Knative in it, each unless it is there. Raises `Missing`, `Failed` and `Fault`."""
    from knative import installation, machines

    need_programs(machine)
    there = machines.is_there(machine, run(machine.look))
    releases = lacking(machine, environment, there=there)
    if not there:
        say(f"making a cluster with {machine.name}")
        run(machine.create)
    for one in loads(machine, wanted):
        run(one)
        say(f"✓ {wanted.archive} is on the node")
    for release in releases:
        say(f"installing {', '.join(release.sha256)}")
        installation.run("apply", at(machine), release, wanted.mirror)
    say("✓ Knative is installed")
    expose(at(machine), machine)


def at(machine: Machine) -> Kubectl:
    if machine.kubeconfig:
        os.environ["KUBECONFIG"] = machine.kubeconfig
    return cluster_of(machine.context)


def loads(machine: Machine, wanted: Wanted) -> list[Command]:
    from knative.machines import load

    return [load(machine, str(wanted.archive))] if wanted.archive else []


def lacking(machine: Machine, environment: Environment, *, there: bool) -> list[Release]:
    """The releases that the cluster does not have yet, in the order to apply them. Raises `Unpinned`."""
    from knative import installation

    wanted = [(installation.knative(), installation.is_installed)]
    if environment.broker.jetstream:
        wanted.append((installation.jetstream(), installation.has_jetstream))
    return [release for release, is_in in wanted if not there or not is_in(at(machine))]


def expose(cluster: Kubectl, machine: Machine) -> None:
    """Kourier at ports of the node, where there is no load balancer."""
    if not machine.node_ports:
        return
    ports = [{"port": port, "nodePort": outside} for port, outside in machine.node_ports.items()]
    patch = json.dumps({"spec": {"type": "NodePort", "ports": ports}})
    cluster.run("patch", "service", "kourier", "--namespace", "kourier-system", "--patch", patch)


def gateway_of(machine: Machine, environment: Environment) -> str:
    """Where its ingress answers; empty where the cluster itself tells."""
    if not machine.node_ports:
        return ""
    scheme, port = ("https", 443) if environment.tls_secret else ("http", 80)
    return f"{scheme}://127.0.0.1:{machine.node_ports[port]}"


def take_off(machine: Machine, environment: Environment) -> list[str]:
    """The environment, then the cluster below it: kind's is deleted, k3s is stopped. What is gone."""
    from knative import apply, machines

    need_programs(machine)
    if not machines.is_there(machine, run(machine.look)):
        return []
    deleted = apply.delete(at(machine), environment)
    run(machine.delete)
    return [*deleted, f"cluster/{machine.name}"]


def run(command: Command) -> str:
    """Its output. Raises `Failed` with what it complained about."""
    try:
        done = subprocess.run(  # noqa: S603  a program that the operator installed
            command.argv, input=command.given, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{command.text()} did not end within {COMMAND_TIMEOUT_S} s") from late
    if done.returncode != 0:
        raise Failed(f"{command.text()} failed", why=done.stderr.strip()[-SAID_CHARS_MAX:])
    return done.stdout
