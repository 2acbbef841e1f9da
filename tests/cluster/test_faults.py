"""What goes wrong with a cluster: said before anything is changed, or mended by itself or by the next run."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from knative.kubectl import kubectl
from knative.preflight import findings
from shared.cli.cluster import rendered
from shared.cli.documents import ask, list_documents
from shared.cli.failures import Failed, Missing
from tests.cluster.conftest import Deployed, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
RESTART = "DCODER_TEST_NODE_RESTART"
GONE_S = 600
"""While a pod ends, Kubernetes looks at its namespace again only after half the pod's time for that, minutes."""
BACK_S = 300
QUESTION = "How many days is a lost umbrella kept?"


def answers(deployed: Deployed) -> bool:
    try:
        return "41" in str(ask(deployed.llm(deployed.tenant_key), QUESTION)["answer"])
    except (Failed, Missing):
        return False


def versions(deployed: Deployed) -> str:
    kinds = "services.serving.knative.dev,triggers.eventing.knative.dev,networkpolicies,serviceaccounts,secrets"
    columns = "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion"
    return deployed.kubectl("get", kinds, "-o", columns)


def refused(deployed: Deployed, **more: str) -> str:
    """What `deploy apply` says when it refuses. Nothing may have changed."""
    before = versions(deployed)
    argv = deployed.cli.command("deploy", "apply", deployed.environment.name, "--image", deployed.image)
    done = subprocess.run(
        argv, env={**deployed.cli.surroundings(), **more}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "nothing was changed" in done.stderr
    assert versions(deployed) == before
    return done.stderr


@pytest.fixture
def powerless(deployed: Deployed, tmp_path: Path) -> Iterator[str]:
    """A kubeconfig of somebody who may look at nothing and change nothing."""
    deployed.kubectl("create", "serviceaccount", "powerless")
    path = tmp_path / "kubeconfig"
    path.write_text(deployed.kubectl("config", "view", "--raw", "--minify", "--flatten"))
    token = deployed.kubectl("create", "token", "powerless").strip()
    at = ("--kubeconfig", str(path), "config")
    deployed.kubectl(*at, "set-credentials", "powerless", f"--token={token}")
    deployed.kubectl(*at, "set-context", "--current", "--user=powerless")
    yield str(path)
    deployed.kubectl("delete", "serviceaccount", "powerless")


def test_a_cluster_that_does_not_answer_is_said(deployed: Deployed, tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    at = ("--kubeconfig", str(nowhere), "config")
    deployed.kubectl(*at, "set-cluster", "x", "--server=https://127.0.0.1:9")
    deployed.kubectl(*at, "set-context", "x", "--cluster=x")
    deployed.kubectl(*at, "use-context", "x")
    assert "the cluster does not answer" in refused(deployed, KUBECONFIG=str(nowhere))


def test_rights_that_are_missing_are_said(deployed: Deployed, powerless: str) -> None:
    said = refused(deployed, KUBECONFIG=powerless)
    assert "you may not" in said
    assert "services" in said


def test_a_cluster_without_room_is_said(deployed: Deployed) -> None:
    environment, manifests = rendered(deployed.environment.name, deployed.image)
    assert findings(kubectl(), environment, manifests) == []
    huge = environment.sizes.model_copy(update={"cpu_request_millicores": 1_000_000})
    (found,) = findings(kubectl(), environment.model_copy(update={"sizes": huge}), manifests)
    assert "no node has room for one instance: 1000000m CPU" in found.what


def test_a_deployment_that_was_killed_is_finished_by_the_next(deployed: Deployed) -> None:
    """Objects are lost, and each attempt to bring them back but the last is killed at a random moment."""
    name = deployed.environment.name
    deployed.kubectl("delete", "services.serving.knative.dev", "knowledge", "--wait=false")
    deployed.kubectl("delete", "triggers.eventing.knative.dev", "--all", "--wait=false")
    deployed.kubectl("delete", "networkpolicies", "--all")
    for _ in range(4):
        argv = deployed.cli.command("deploy", "apply", name, "--image", deployed.image)
        applying = subprocess.Popen(
            argv, env=deployed.cli.surroundings(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(0.5, 6.0))
        applying.send_signal(signal.SIGKILL)
        applying.wait()
    deployed.run("deploy", "apply", name, "--image", deployed.image)
    assert deployed.run("deploy", "status", name)["ok"]
    wait_for(lambda: answers(deployed), timeout_s=BACK_S, what="an answer")


def test_a_deleted_namespace_is_brought_back_with_all_data(deployed: Deployed) -> None:
    documents = len(list_documents(deployed.platform(deployed.tenant_key)))
    namespace = deployed.environment.namespace
    deployed.kubectl("delete", "namespace", namespace, "--wait=false")
    wait_for(
        lambda: not deployed.kubectl("get", "namespace", namespace, "--ignore-not-found"),
        timeout_s=GONE_S,
        what="the namespace gone",
    )
    began = time.monotonic()
    more = ("--gateway", deployed.gateway)
    deployed.run("deploy", "up", "existing", deployed.environment.name, "--image", deployed.image, *more)
    print(f"\na deleted namespace: back, with a question answered, after {time.monotonic() - began:.0f} s")
    assert len(list_documents(deployed.platform(deployed.tenant_key))) >= documents


def test_a_restarted_node_comes_back_by_itself(deployed: Deployed) -> None:
    restart = os.environ.get(RESTART, "")
    if not restart:
        pytest.skip(f"{RESTART} is not set: name the command that stops and starts the node")
    wait_for(lambda: answers(deployed), timeout_s=BACK_S, what="an answer before")
    subprocess.run(shlex.split(restart), check=True, timeout=300)
    began = time.monotonic()
    wait_for(lambda: answers(deployed), timeout_s=BACK_S, what="an answer after")
    print(f"\na restarted node: a question was answered after {time.monotonic() - began:.0f} s")
