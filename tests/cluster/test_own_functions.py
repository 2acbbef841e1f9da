"""A tenant's own function on a real cluster: its revisions are Services in the tenant's namespace, from its bundle."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.cli.failures import Failed
from tests.cluster.conftest import Deployed, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TENANT = "smoke"
PATH = "/v1/own/rates/hello"
STARTS_S = 60


@dataclass(frozen=True)
class Own:
    """The platform on the cluster, and the folder of a function."""

    deployed: Deployed
    folder: Path

    @property
    def namespace(self) -> str:
        return f"{self.deployed.environment.namespace}--{TENANT}"

    def run(self, command: str, *arguments: str) -> dict[str, Any]:  # Any: JSON
        place = ("--environment", self.deployed.environment.name, "--gateway", self.deployed.gateway)
        return self.deployed.run("functions", command, *arguments, "--tenant", TENANT, *place)

    def greeting(self) -> str:
        try:
            answer = self.deployed.platform(self.deployed.tenant_key).call("GET", PATH).json()
        except Failed as refused:
            return refused.why
        return str(answer["text"]).partition(",")[0]

    def found(self, resource: str) -> list[dict[str, Any]]:  # Any: JSON of the cluster
        argv = ["kubectl", "--namespace", self.namespace, "get", resource, "-o", "json"]
        listed = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
        items: list[dict[str, Any]] = json.loads(listed)["items"]
        return items

    def names(self, resource: str) -> set[str]:
        return {one["metadata"]["name"] for one in self.found(resource)}

    def images(self) -> dict[str, str]:
        """Service → the image that its newest revision runs."""
        return {
            one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]["image"]
            for one in self.found("services.serving.knative.dev")
        }


@pytest.fixture(scope="module")
def own(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own") / "rates"
    deployed.run("functions", "new", "--own", str(folder))
    yield Own(deployed, folder)
    subprocess.run(["kubectl", "delete", "namespace", f"{deployed.environment.namespace}--{TENANT}"], check=False)


def test_it_is_deployed_shared_out_rolled_back_and_gone(own: Own) -> None:
    assert own.run("deploy", str(own.folder))["revision"] == 1
    wait_for(lambda: own.greeting() == "Hello", timeout_s=STARTS_S, what="the first revision answers")

    source = own.folder / "function.py"
    source.write_text(source.read_text().replace("Hello, ", "Good day, "))
    assert own.run("deploy", str(own.folder))["revision"] == 2
    wait_for(lambda: own.greeting() == "Good day", timeout_s=STARTS_S, what="the second revision answers")
    assert "own-rates-1" not in own.names("services.serving.knative.dev")

    assert own.run("traffic", "rates", "1=50", "2=50")["serving"] == {"1": 50, "2": 50}
    wait_for(lambda: own.greeting() == "Hello", timeout_s=STARTS_S, what="the first revision gets calls again")
    assert {own.greeting() for _ in range(30)} == {"Hello", "Good day"}

    other = own.deployed.image.rpartition(":")[0] + ":rollback"
    name = own.deployed.environment.name
    own.deployed.run("deploy", "apply", name, "--image", other, "--gateway", own.deployed.gateway)
    assert own.images() == {"own-rates-1": other, "own-rates-2": other}
    assert own.run("show", "rates")["serving"] == {"1": 50, "2": 50}
    assert {own.greeting() for _ in range(30)} == {"Hello", "Good day"}
    own.deployed.run("deploy", "apply", name, "--image", own.deployed.image, "--gateway", own.deployed.gateway)
    assert set(own.images().values()) == {own.deployed.image}

    assert own.run("rollback", "rates")["serving"] == {"1": 100}
    wait_for(lambda: {own.greeting() for _ in range(5)} == {"Hello"}, timeout_s=STARTS_S, what="all calls go back")

    argv = ["kubectl", "--namespace", own.namespace, "get", "secret,configmap", "-o", "name"]
    held = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "configmap/own-rates-1" in held
    assert "configmap/own-rates-2" not in held

    (listed,) = own.run("ls")["functions"]
    assert (listed["name"], listed["serving"]) == ("rates", {"1": 100})
    assert any('"started"' in line for line in own.run("logs", "rates", "--revision", "1")["lines"])
    with pytest.raises(AssertionError, match="own-rates-2 has no pod"):
        own.run("logs", "rates")

    own.run("rm", "rates", "--yes")
    assert "404" in own.greeting()
    assert own.names("services.serving.knative.dev") == set()
