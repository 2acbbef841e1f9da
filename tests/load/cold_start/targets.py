"""The Services that are started: the platform's own, and the hello worlds that are made and deleted here."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from knative.kubectl import Kubectl
from knative.manifest import Manifest
from tests.load.cold_start.moments import Watch, logged, scheduled

NAMESPACE = "dcoder-cold-start"
PROGRAM = Path(__file__).parent / "hello_framework/main.py"
FRAMEWORK = ("-P", "-m", "functions_framework", "--target", "main", "--source", "/hello/main.py")
VOLUMES: Mapping[str, tuple[str, dict[str, Any]]] = {  # Any: see Manifest
    "hello": ("/hello", {"configMap": {"name": "hello"}}),
    "scratch": ("/tmp", {"emptyDir": {}}),  # noqa: S108  the pod's own volume
}
"""As many as the platform's pods have: the kubelet looks for volumes in steps of 0.3 s."""
WINDOW = {"autoscaling.knative.dev/window": "6s"}
"""The shortest that Knative takes; else each start waits a minute for the last pod's end."""
PATIENCE_S = 240.0
SETTLED_S = 2.0
"""Until everyone knows that the last pod has gone."""
KUBELET_PERIOD_S = 1.0
"""The kubelet looks at its containers once in this; each start falls somewhere else into it."""


@dataclass
class Target:
    """A Service, the request that wakes it, and each start's moments in seconds after the request."""

    name: str
    namespace: str
    service: str
    host: str
    path: str
    headers: dict[str, str]
    tells_in_log: bool
    """Else its answer is its moments."""
    body: bytes = b""
    """What is posted. Empty: it is a GET."""
    warm: str = ""
    """A path that is asked before each start, of what stands before the Service and is not measured."""
    starts: list[dict[str, float]] = field(default_factory=list)

    def pods(self, cluster: Kubectl) -> set[str]:
        """Those that may serve: one that ends has left the endpoints, but drains for half a minute."""
        selector = f"serving.knative.dev/service={self.service}"
        return {
            one["metadata"]["name"]
            for one in cluster.find("pods", "--namespace", self.namespace, "--selector", selector)
            if "deletionTimestamp" not in one["metadata"]
        }

    def start(self, cluster: Kubectl, gateway: str, watch: Watch) -> None:
        """One start, from no pod. Raises `SystemExit` when it is none."""
        self.wait_for_none(cluster)
        if self.warm:
            self.request(gateway, self.warm)
        began = time.time()
        first_byte_s, body = self.request(gateway)
        pods = self.pods(cluster)
        if len(pods) != 1:
            raise SystemExit(f"{self.name}: answered with the pods {pods}")
        pod = pods.pop()
        told = logged(cluster, self.namespace, pod) if self.tells_in_log else dict(json.loads(body))
        moments = {
            **told,
            "made": watch.made[pod],
            "address": watch.address[pod],
            "scheduled": scheduled(cluster, self.namespace, pod),
        }
        self.starts.append({name: at - began for name, at in moments.items()} | {"byte": first_byte_s})

    def wait_for_none(self, cluster: Kubectl) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.pods(cluster):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: a pod is still there after {PATIENCE_S:.0f} s")
            time.sleep(0.5)
        time.sleep(SETTLED_S + random.random() * KUBELET_PERIOD_S)

    def request(self, gateway: str, path: str = "") -> tuple[float, bytes]:
        """Seconds to the first byte, and the body. Raises `SystemExit` for any status but 200. `path` is another."""
        address = urlsplit(gateway)
        began = time.perf_counter()
        connection = http.client.HTTPConnection(str(address.hostname), address.port or 80, timeout=60)
        try:
            body = None if path else self.body or None
            headers = {"Host": self.host, **self.headers}
            connection.request("POST" if body else "GET", path or self.path, body, headers)
            answer = connection.getresponse()
            seconds = time.perf_counter() - began
            body = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise SystemExit(f"{self.name}: answered {answer.status} {body[:200]!r}")
        return seconds, body


def hello_manifests(ours: dict[str, Any], go_image: str) -> list[Manifest]:  # Any: see Manifest
    """The hello worlds with what the platform's container has of resources, rights and probes."""
    place = {"name": "hello", "namespace": NAMESPACE}
    program = {"main.py": PROGRAM.read_text()}
    found: list[Manifest] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": program},
        service("hello", ours, {"command": ["python3"], "args": list(FRAMEWORK)}, VOLUMES),
    ]
    if go_image:
        found += [service("hello-go", ours, {"image": go_image}, VOLUMES)]
        found += [service("hello-go-bare", ours, {"image": go_image}, {})]
    return found


def service(
    name: str,
    ours: dict[str, Any],  # Any: see Manifest
    own: dict[str, Any],  # Any: see Manifest
    volumes: Mapping[str, tuple[str, dict[str, Any]]],  # Any: see Manifest
) -> Manifest:
    container = {
        **{key: ours[key] for key in ("image", "resources", "securityContext", "ports")},
        **own,
        "name": "function",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 0},
        "volumeMounts": [{"name": one, "mountPath": path} for one, (path, _) in volumes.items()],
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": one, **source} for one, (_, source) in volumes.items()],
    }
    annotations = {"autoscaling.knative.dev/initial-scale": "0", **WINDOW}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}},
    }


def hello_targets(cluster: Kubectl, ours: dict[str, Any], go_image: str) -> list[Target]:  # Any: see Manifest
    cluster.apply(hello_manifests(ours, go_image))
    names = {"hello": "framework hello"}
    if go_image:
        names |= {"hello-go": "static Go hello", "hello-go-bare": "… no volumes"}
    found = []
    for service_name, said in names.items():
        cluster.run("wait", "--for=condition=Ready", f"ksvc/{service_name}", "--namespace", NAMESPACE, "--timeout=90s")
        made = cluster.one("ksvc", service_name, NAMESPACE)
        assert made is not None
        host = str(urlsplit(made["status"]["url"]).hostname)
        found.append(Target(said, NAMESPACE, service_name, host, "/", {}, tells_in_log=False))
    return found


def delete_hello(cluster: Kubectl) -> None:
    everything = ("--all", "--namespace", NAMESPACE, "--cascade=foreground")
    cluster.run("delete", "ksvc", *everything)
    cluster.run("delete", "namespace", NAMESPACE, "--ignore-not-found")
