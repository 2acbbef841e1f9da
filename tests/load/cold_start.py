"""From no pod to the first byte: a platform function on a cluster, beside functions-framework's hello world there.

    python -m tests.load.cold_start [--environment local] [--gateway http://host:port] [--runs 9]

It wants a platform that `knative/up existing` brought up from DCODER_HOME, and kubectl on its cluster. The platform's
function lists documents: a virtual key is checked and the tenant's database is asked. The hello world is a plain
function under functions-framework in the same image, with the same resources and security context, in a namespace
that is made and deleted here. Both take turns. Each start is one request to a Service that has no pod; the seconds go
from opening the connection to the answer's first byte, through Kourier, activator and queue-proxy.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from knative.environment import load
from knative.kubectl import Kubectl, kubectl
from knative.manifest import Manifest
from shared.cli.bringup import TENANT, gateway_of
from shared.cli.client import key_of
from shared.host.home import find_home

SERVICE = "knowledge"
NAMESPACE = "dcoder-cold-start"
HELLO = "def main(request):\n    return 'hello'\n"
WINDOW = {"autoscaling.knative.dev/window": "6s"}
"""The shortest that Knative takes; else each start waits a minute for the last pod's end."""
BAR_RATIO, BAR_S = 1.25, 1.6
PATIENCE_S = 240.0
SETTLED_S = 2.0
"""Until everyone knows that the last pod has gone."""


@dataclass
class Target:
    """A Service, the request that wakes it, and what each start took in seconds."""

    name: str
    namespace: str
    service: str
    host: str
    path: str
    headers: dict[str, str]
    took_s: list[float] = field(default_factory=list)

    def pods(self, cluster: Kubectl) -> set[str]:
        """Those that may serve: one that ends has left the endpoints, but drains for half a minute."""
        selector = f"serving.knative.dev/service={self.service}"
        return {
            one["metadata"]["name"]
            for one in cluster.find("pods", "--namespace", self.namespace, "--selector", selector)
            if "deletionTimestamp" not in one["metadata"]
        }

    def start(self, cluster: Kubectl, gateway: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.pods(cluster):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: a pod is still there after {PATIENCE_S:.0f} s")
            time.sleep(0.5)
        time.sleep(SETTLED_S)
        seconds, status = first_byte(gateway, self)
        if status != http.HTTPStatus.OK or not self.pods(cluster):
            raise SystemExit(f"{self.name}: answered {status} from {self.pods(cluster) or 'no pod'}")
        self.took_s.append(seconds)


def first_byte(gateway: str, target: Target) -> tuple[float, int]:
    """Seconds to the first byte, and the status."""
    address = urlsplit(gateway)
    began = time.perf_counter()
    connection = http.client.HTTPConnection(str(address.hostname), address.port or 80, timeout=60)
    try:
        connection.request("GET", target.path, headers={"Host": target.host, **target.headers})
        answer = connection.getresponse()
        seconds = time.perf_counter() - began
        answer.read()
        return seconds, answer.status
    finally:
        connection.close()


def hello_manifests(container: dict[str, Any]) -> list[Manifest]:  # Any: see Manifest
    """The hello world with what the platform's container has of resources, rights and probes."""
    ours = {key: container[key] for key in ("image", "resources", "securityContext", "ports")}
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 0}
    arguments = ["-P", "-m", "functions_framework", "--target", "main", "--source", "/hello/main.py"]
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                **ours,
                "name": "hello",
                "command": ["python3"],
                "args": arguments,
                "readinessProbe": probe,
                "volumeMounts": [
                    {"name": "hello", "mountPath": "/hello"},
                    {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  the pod's own volume
                ],
            }
        ],
        "volumes": [{"name": "hello", "configMap": {"name": "hello"}}, {"name": "scratch", "emptyDir": {}}],
    }
    place = {"name": "hello", "namespace": NAMESPACE}
    template = {"metadata": {"annotations": {"autoscaling.knative.dev/initial-scale": "0", **WINDOW}}, "spec": spec}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": {"main.py": HELLO}},
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"template": template},
        },
    ]


def hello_target(cluster: Kubectl, container: dict[str, Any]) -> Target:  # Any: see Manifest
    cluster.apply(hello_manifests(container))
    cluster.run("wait", "--for=condition=Ready", "ksvc/hello", "--namespace", NAMESPACE, "--timeout=90s")
    found = cluster.one("ksvc", "hello", NAMESPACE)
    assert found is not None
    host = str(urlsplit(found["status"]["url"]).hostname)
    return Target("functions-framework hello", NAMESPACE, "hello", host, "/", {})


def report(target: Target) -> None:
    print(
        f"  {target.name:<28} best {min(target.took_s):5.2f} s, median {statistics.median(target.took_s):5.2f} s, "
        f"worst {max(target.took_s):5.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="local")
    parser.add_argument("--gateway", default=os.environ.get("DCODER_TEST_GATEWAY", ""))
    parser.add_argument("--runs", type=int, default=9)
    wanted = parser.parse_args()
    environment, cluster = load(wanted.environment), kubectl()
    gateway = wanted.gateway or gateway_of(cluster)
    deployed = cluster.one("ksvc", SERVICE, environment.namespace)
    if deployed is None:
        raise SystemExit(f"there is no Service {SERVICE}; bring the platform up: knative/up existing")
    key = key_of(find_home(), "tenants", TENANT)
    ours = Target(
        "platform: list documents", environment.namespace, SERVICE, f"platform.{environment.domain}",
        "/v1/documents", {"Authorization": f"Bearer {key}"},
    )  # fmt: skip
    revision = deployed["status"]["latestReadyRevisionName"]
    quick = [f"{name}={value}" for name, value in WINDOW.items()]
    slow = [f"{name}-" for name in WINDOW]
    annotate = ("annotate", "podautoscalers.autoscaling.internal.knative.dev", revision, "--namespace", ours.namespace)
    try:
        hello = hello_target(cluster, deployed["spec"]["template"]["spec"]["containers"][0])
        cluster.run(*annotate, "--overwrite", *quick)
        for _ in range(wanted.runs):
            for target in (hello, ours):
                target.start(cluster, gateway)
    finally:
        cluster.run(*annotate, *slow)
        cluster.run("delete", "ksvc", "hello", "--namespace", NAMESPACE, "--ignore-not-found", "--cascade=foreground")
        cluster.run("delete", "namespace", NAMESPACE, "--ignore-not-found")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {wanted.runs} starts each, from no pod")
    report(hello)
    report(ours)
    median = statistics.median(ours.took_s)
    ratio = median / statistics.median(hello.took_s)
    print(f"  {'median, platform / hello':<28} {ratio:.2f}   bars {BAR_RATIO} and {BAR_S} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
