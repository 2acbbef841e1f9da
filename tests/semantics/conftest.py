"""A platform to test, whichever carries its events: `--target local`, a stack of this machine; `--target cluster`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from shared.cli.client import Client
from shared.cli.documents import list_documents
from shared.cli.keys import create_key
from shared.events import CloudEvent, Events
from shared.events.http import to_structured
from shared.events.stream import Stream
from shared.host.home import Home
from shared.identity import Tokens
from tests.cluster.conftest import Deployed, deployed
from tests.fixtures.stack import stack

__all__ = ["deployed"]
TENANT = "smoke"
POST = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), method='POST', headers={
    'Content-Type': 'application/cloudevents+json'})
print(urllib.request.urlopen(request, timeout=30).status)
"""


@dataclass(frozen=True)
class Place:
    """A platform with the tenant `smoke`, and how an event gets to its carrier: JetStream, or a Broker."""

    home: Home
    platform: Callable[[str], Client]
    carry: Callable[[CloudEvent], None]
    tenant_key: str

    @property
    def tenant(self) -> Client:
        return self.platform(self.tenant_key)

    @property
    def operator(self) -> Client:
        return self.platform(str(self.home.read("secrets/keys.json")["admin_key"]))

    @property
    def told(self) -> dict[str, str]:
        """The settings of what runs on this machine: the stores' addresses."""
        told = self.home.read("host.json")["environment"]
        assert isinstance(told, dict)
        return told

    def publish(self, event: CloudEvent) -> None:
        """As a function of the platform does: signed."""
        self.carry(Tokens((self.home.secrets / "tokens.key").read_bytes()).sign_event(event))


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.config.getoption("--target") == "cluster":
        there: Deployed = request.getfixturevalue("deployed")
        yield Place(there.cli.home, there.platform, lambda event: to_broker(there, event), there.tenant_key)
        return
    with stack() as (cli, up):
        home, url = cli.home, str(up["platform_url"])
        operator = Client(url, str(home.read("secrets/keys.json")["admin_key"]))
        operator.call("POST", "/v1/tenants", {"name": TENANT})
        key = str(create_key(operator, TENANT, "admin", name="semantics")["key"])
        told = home.read("host.json")["environment"]
        assert isinstance(told, dict)
        nats = str(told["DCODER_NATS_URL"])
        yield Place(home, lambda key: Client(url, key), lambda event: asyncio.run(to_stream(nats, event)), key)


async def to_stream(nats_url: str, event: CloudEvent) -> None:
    events = Events(Stream(nats_url), sign=lambda signed: signed)
    try:
        await events.publish(event)
    finally:
        await events.close()


def to_broker(there: Deployed, event: CloudEvent) -> None:
    """From a function's own pod: the Broker is not to be reached from outside."""
    list_documents(there.platform(there.tenant_key))  # wakes the group that serves documents
    pod = next(one for one in there.pods("knowledge") if one["status"]["phase"] == "Running")["metadata"]["name"]
    url = f"{there.environment.broker.ingress}/{there.environment.namespace}/events"
    _, body = to_structured(event)
    command = ("exec", "-i", pod, "-c", "function", "--", "python3", "-c", POST, url)
    assert there.kubectl(*command, given=json.dumps(json.loads(body))).strip() == "202"
