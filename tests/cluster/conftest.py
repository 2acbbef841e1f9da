"""A platform on the cluster of KUBECONFIG: brought up once a session as an operator does it, and taken off again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knative.environment import Environment, load
from knative.secrets import TLS_FILES
from shared.cli.client import Client
from tests.fixtures.certificates import certificate
from tests.fixtures.servers import scratch_directory
from tests.fixtures.stack import Cli

IMAGE = "DCODER_TEST_IMAGE"
GATEWAY = "DCODER_TEST_GATEWAY"
ENVIRONMENT = "DCODER_TEST_ENVIRONMENT"
UP_S = 900


@dataclass(frozen=True)
class Deployed:
    """Where the platform is, and how to look at the cluster below it."""

    cli: Cli
    environment: Environment
    gateway: str
    image: str

    @property
    def keys(self) -> dict[str, Any]:  # Any: JSON
        return self.cli.home.read("secrets/keys.json")

    def platform(self, key: str) -> Client:
        return Client(self.gateway, key, host=f"platform.{self.environment.domain}")

    def llm(self, key: str) -> Client:
        return Client(self.gateway, key, host=f"llm.{self.environment.domain}")

    @property
    def tenant_key(self) -> str:
        return str(self.keys["tenants"]["smoke"])

    @property
    def operator_key(self) -> str:
        return str(self.keys["admin_key"])

    def kubectl(self, *arguments: str, given: str = "") -> str:
        argv = ["kubectl", "--namespace", self.environment.namespace, *arguments]
        return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, check=True).stdout

    def pods(self, service: str = "") -> list[dict[str, Any]]:  # Any: JSON of the cluster
        """Those that may serve: one that ends takes no more calls, but drains for half a minute."""
        selector = f"serving.knative.dev/service={service}" if service else "serving.knative.dev/service"
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
        return [one for one in items if "deletionTimestamp" not in one["metadata"]]

    def run(self, *arguments: str) -> dict[str, Any]:  # Any: JSON
        done = subprocess.run(
            self.cli.command(*arguments, "--json"),
            env=self.cli.surroundings(),
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def wait_for(condition: Callable[[], object], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(1)


def evict(deployed: Deployed, pod: str) -> None:
    """As a node that is drained does it: refused when a disruption budget forbids it."""
    namespace = deployed.environment.namespace
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    deployed.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))


def identity(deployed: Deployed, pod: str) -> str:
    return deployed.kubectl("get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def certified(environment: Environment, folder: Path) -> dict[str, str]:
    """Variables for a certificate by an authority of our own, where the environment has one; this process trusts it."""
    if environment.tls_secret is None:
        return {}
    made = certificate(folder, [f"{name}.{environment.domain}" for name in ("platform", "llm")])
    trusted = {"SSL_CERT_FILE": str(made.authority)}
    os.environ.update(trusted)
    return {**trusted, **dict(zip(TLS_FILES, (str(made.chain), str(made.key)), strict=True))}


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    if shutil.which("kubectl") is None or not os.environ.get("KUBECONFIG"):
        pytest.skip("kubectl or KUBECONFIG is missing: point them at a cluster with Knative")
    image = os.environ.get(IMAGE, "")
    if not image:
        pytest.skip(f"{IMAGE} is not set: name the image that the cluster's nodes have")
    with scratch_directory() as folder:
        environment = load(os.environ.get(ENVIRONMENT, "local"))
        cli = Cli(Path(folder) / "home", certified(environment, Path(folder)))
        gateway = os.environ.get(GATEWAY, "")
        place = Deployed(cli, environment, gateway, image)
        try:
            more = ("--gateway", gateway) if gateway else ()
            up = place.run("deploy", "up", "existing", environment.name, "--image", image, *more)
            yield Deployed(cli, environment, str(up["gateway"]), image)
        finally:
            wipe = ("--wipe",) if environment.pods else ()
            cli.run("deploy", "down", "existing", environment.name, *wipe)
            cli.run("down", "--wipe")
