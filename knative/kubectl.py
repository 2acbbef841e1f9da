"""The `kubectl` program: the one way to the cluster. Manifests and secrets go through its standard input."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from knative.manifest import Manifest
from shared.errors import Fault

MANAGER = "dcoder"
"""Field manager of server-side apply."""
TIMEOUT_S = 120.0
REQUEST_TIMEOUT = "20s"
SAID_CHARS_MAX = 1500
FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
WHITE = re.compile(r"\s*")

Object = Mapping[str, Any]  # Any: what the cluster answers


class KubectlMissing(Fault):
    """There is no kubectl on the PATH."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl on the current context, or on a named one."""

    program: str
    context: str = ""

    def run(self, *arguments: str, given: str = "") -> str:
        """Its output. Raises `Fault` with what it complained about."""
        context = ("--context", self.context) if self.context else ()
        argv = [self.program, *context, f"--request-timeout={REQUEST_TIMEOUT}", *arguments]
        try:
            done = subprocess.run(  # noqa: S603  a program that the operator installed; no secret is in argv
                argv, input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise Fault(f"kubectl {arguments[0]} did not end within {TIMEOUT_S:.0f} s") from late
        if done.returncode != 0:
            raise Fault(f"kubectl {arguments[0]}: {done.stderr.strip()[-SAID_CHARS_MAX:]}")
        return done.stdout

    def passed_on(self, *arguments: str) -> None:
        """Let it write to our output, until it ends. Raises `Fault` when it complained."""
        context = ("--context", self.context) if self.context else ()
        status = subprocess.call([self.program, *context, *arguments])  # noqa: S603  as above
        if status != 0:
            raise Fault(f"kubectl {arguments[0]} ended with status {status}")

    def json(self, *arguments: str, given: str = "") -> Object:
        found: Object = json.loads(self.run(*arguments, "--output=json", given=given))
        return found

    def find(self, kind: str, *arguments: str) -> list[Object]:
        """The objects of a kind, or of several separated by commas."""
        return list(self.json("get", kind, *arguments)["items"])

    def one(self, kind: str, name: str, namespace: str) -> Object | None:
        """The named object; None when there is none."""
        text = self.run("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def create(self, manifests: Sequence[Manifest]) -> list[Object]:
        """Create the objects, in the order given; as the cluster answered them."""
        document = {"apiVersion": "v1", "kind": "List", "items": [dict(one) for one in manifests]}
        return documents(self.run("create", "--filename=-", "--output=json", given=json.dumps(document)))

    def apply(self, manifests: Iterable[Manifest], *, dry_run: bool = False) -> list[str]:
        """Server-side apply, in the order given; what kubectl said of each object. Ours wins over others' edits."""
        document = {"apiVersion": "v1", "kind": "List", "items": [dict(one) for one in manifests]}
        options = ["--server-side", f"--field-manager={MANAGER}", "--force-conflicts"]
        if dry_run:
            options.append("--dry-run=server")
        return self.run("apply", *options, "--filename=-", given=json.dumps(document)).splitlines()

    @contextmanager
    def forwarded(self, resource: str, port: int, namespace: str) -> Iterator[int]:
        """A port of this machine's loopback address that leads to the resource's port, for the block's length.

        Raises `Fault` when none is opened.
        """
        context = ("--context", self.context) if self.context else ()
        argv = [self.program, *context, "--namespace", namespace, "port-forward", resource, f":{port}"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                opened = FORWARDED.match(process.stdout.readline())
                if opened is None:
                    process.terminate()
                    raise Fault(f"kubectl port-forward {resource}: {process.stderr.read().strip()[-SAID_CHARS_MAX:]}")
                yield int(opened[1])
            finally:
                process.terminate()


def documents(text: str) -> list[Object]:
    """JSON documents one after the other, as kubectl prints several objects; or those of a List."""
    found: list[Object] = []
    decoder, position = json.JSONDecoder(), 0
    while (start := WHITE.match(text, position)) and start.end() < len(text):
        one, position = decoder.raw_decode(text, start.end())
        found += one["items"] if one.get("kind") == "List" else [one]
    return found


def kubectl(context: str = "") -> Kubectl:
    """Raises `KubectlMissing`."""
    program = shutil.which("kubectl")
    if program is None:
        raise KubectlMissing("kubectl is not on the PATH")
    return Kubectl(program, context)
