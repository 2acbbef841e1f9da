"""A cluster on this machine, by kind or k3s: the commands that make, fill and take it off, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KIND_NODE = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
"""From the release notes of kind v0.30.0."""
KIND_NAME = "dcoder"
K3S_VERSION = "v1.34.1+k3s1"
K3S_KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
INGRESS_PORTS = {80: 31080, 443: 31443}
"""Kourier's → that of this machine's loopback address, and of kind's node."""
KIND_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
""" + "".join(
    f"      - {{containerPort: {port}, hostPort: {port}, listenAddress: 127.0.0.1}}\n"
    for port in INGRESS_PORTS.values()
)


@dataclass(frozen=True)
class Command:
    """A program to run, and what it reads from its standard input."""

    argv: tuple[str, ...]
    given: str = ""

    def text(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True)
class Machine:
    """How one program makes a cluster here."""

    name: str
    programs: dict[str, str]
    """What must be on the PATH → how to install it."""
    context: str
    look: Command
    """Prints `there` on a line of its own when the cluster is there."""
    there: str
    create: Command
    delete: Command
    load: tuple[str, ...]
    """Before the archive's path."""
    after_archive: tuple[str, ...] = ()
    kubeconfig: str = ""
    """Empty: kubectl's own."""
    node_ports: Mapping[int, int] = field(default_factory=dict)
    """Where Kourier is to answer, for a cluster without load balancers."""


DOWNLOADS = {
    "curl": "your system's package curl",
    "sha256sum": "your system's package coreutils",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/, version 1.34",
}
KIND = Machine(
    name="kind",
    programs={"kind": "https://kind.sigs.k8s.io/, v0.30.0 or later, with Docker or Podman", **DOWNLOADS},
    context=f"kind-{KIND_NAME}",
    look=Command(("kind", "get", "clusters")),
    there=KIND_NAME,
    create=Command(
        ("kind", "create", "cluster", "--name", KIND_NAME, "--image", KIND_NODE, "--wait", "180s", "--config", "-"),
        KIND_CONFIG,
    ),
    delete=Command(("kind", "delete", "cluster", "--name", KIND_NAME)),
    load=("kind", "load", "image-archive"),
    after_archive=("--name", KIND_NAME),
    node_ports=INGRESS_PORTS,
)
K3S_INSTALLER = f"its installer with INSTALL_K3S_VERSION={K3S_VERSION} and INSTALL_K3S_EXEC=--disable=traefik"
K3S = Machine(
    name="k3s",
    programs={
        "k3s": f"https://docs.k3s.io/, {K3S_INSTALLER}",
        "k3s-killall.sh": f"https://docs.k3s.io/, {K3S_INSTALLER}: it writes this file too",
        "systemctl": "systemd, which starts and stops k3s",
        **DOWNLOADS,
    },
    context="default",
    look=Command(("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "k3s.service")),
    there="k3s.service",
    create=Command(("systemctl", "start", "k3s.service")),
    delete=Command(("k3s-killall.sh",)),
    load=("k3s", "ctr", "images", "import"),
    kubeconfig=K3S_KUBECONFIG,
)
MACHINES = {one.name: one for one in (KIND, K3S)}


def load(machine: Machine, archive: str) -> Command:
    return Command((*machine.load, archive, *machine.after_archive))


def is_there(machine: Machine, printed: str) -> bool:
    return any(line.split()[:1] == [machine.there] for line in printed.splitlines())
