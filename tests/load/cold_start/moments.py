"""When a cold start reached what, from the cluster's side, the process's own, and the caller's.

All are seconds since the epoch, so the nodes' clocks must agree with this machine's to some milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from datetime import datetime

from knative.kubectl import Kubectl
from shared.function.startup import EVENT

COLUMNS = "jsonpath={.metadata.name} {.status.podIP}{'\\n'}"
PATIENCE_S = 5.0
SAID: dict[str, str] = {
    "made": "pod made: gateway, activator, autoscaler, controllers",
    "scheduled": "pod scheduled",
    "process": "process started: volumes, sandbox, container",
    "python": "interpreter and its site are up",
    "imported": "imports done",
    "built": "app built",
    "connected": "first connection, control database asked",
    "address": "kubelet has published the pod's address",
    "probed": "first probe reached the process",
    "ready": "readiness answered",
    "called": "the call reached the process",
    "answered": "the process answered",
    "byte": "first byte at the caller",
}
"""In the order of a start; `connected` and `address` wait for nothing of each other."""


class Watch:
    """Pods of a namespace as kubectl tells of them: when each was made, and when its address was published."""

    def __init__(self, cluster: Kubectl, namespace: str) -> None:
        self.made: dict[str, float] = {}
        self.address: dict[str, float] = {}
        arguments = ["get", "pods", "--namespace", namespace, "--watch-only", f"--output={COLUMNS}"]
        self._process = subprocess.Popen([cluster.program, *arguments], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, address = line.strip().partition(" ")
            self.made.setdefault(name, time.time())
            if address:
                self.address.setdefault(name, time.time())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def scheduled(cluster: Kubectl, namespace: str, pod: str) -> float:
    """The scheduler's own event, to the microsecond."""
    selector = f"involvedObject.name={pod},reason=Scheduled"
    event = cluster.find("events", "--namespace", namespace, "--field-selector", selector)[0]
    return datetime.fromisoformat(event["eventTime"]).timestamp()


def logged(cluster: Kubectl, namespace: str, pod: str) -> dict[str, float]:
    """The process's line about its start. Raises `SystemExit`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for line in cluster.run("logs", pod, "--namespace", namespace, "--container=function").splitlines():
            if f'"{EVENT}"' in line:
                return dict(json.loads(line)["at"])
        time.sleep(0.2)
    raise SystemExit(f"{pod} logged nothing of its start")
