"""What a deployed platform stands: bursts, rollouts under load, and functions killed while they work.

    python -m tests.load.cluster [burst rollouts uploads schedules] [--image TAG --other TAG] [--minutes 30]

It wants a platform that `knative/up existing` brought up from DCODER_HOME, kubectl on its cluster, and for `rollouts`
two images that the nodes have. Everything goes through the ingress. Pods are killed at random: deleted without grace.

burst      50 calls at once to a function that has no pod.      bar: no error, all answered within 10 s
rollouts   10 rollouts and 10 rollbacks under 20 calls a second. bar: no failed call
uploads    200 documents, their function killed at random.       bar: each final, none lost, none doubled
schedules  the scheduler killed at random.                       bar: each minute's ticks claimed exactly once
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import cast

import httpx

from knative import releases
from knative.environment import Environment, load
from knative.kubectl import Kubectl, kubectl
from shared.cli import cluster as deployment
from shared.cli.bringup import TENANT, gateway_of
from shared.cli.client import Client, key_of
from shared.cli.failures import Failed, Missing
from shared.cli.readiness import wait
from shared.host.home import find_home
from shared.postgres import ControlDatabase, Databases

DOCUMENTS, SCHEDULES = "knowledge", "governance"
"""The groups that serve documents and schedules, as the environment `local` places them."""
BURST = 50
CALLS_A_SECOND = 20
ROLLOUTS = 10
UPLOADS = 200
KILL_EVERY_S = (1.0, 4.0)
FINAL_S = 600.0
ZERO_S = 240.0
READY_S = 300
TRIES_MAX = 20


@dataclass(frozen=True)
class Deployed:
    cluster: Kubectl
    environment: Environment
    gateway: str
    key: str = field(repr=False)

    @property
    def host(self) -> str:
        return f"platform.{self.environment.domain}"

    @property
    def client(self) -> Client:
        return Client(self.gateway, self.key, host=self.host)

    @property
    def headers(self) -> dict[str, str]:
        return {"host": self.host, "authorization": f"Bearer {self.key}"}

    def pods(self, service: str) -> list[str]:
        """Names of those that may serve."""
        where = ("--namespace", self.environment.namespace, "--selector", f"serving.knative.dev/service={service}")
        found = self.cluster.find("pods", *where)
        return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]

    def kill_one(self, service: str) -> bool:
        """Kill a pod at random; whether there was one."""
        pods = self.pods(service)
        if not pods:
            return False
        where = ("--namespace", self.environment.namespace, "--ignore-not-found")
        name = random.choice(pods)
        self.cluster.run("delete", "pod", name, *where, "--grace-period=0", "--force")
        return True


@contextmanager
def killing(place: Deployed, service: str) -> Iterator[Counter[str]]:
    """A pod of the service is killed every few seconds meanwhile; `killed` counts them."""
    counted: Counter[str] = Counter()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(random.uniform(*KILL_EVERY_S)):
            counted["killed"] += place.kill_one(service)

    thread = threading.Thread(target=kill, name="killing")
    thread.start()
    try:
        yield counted
    finally:
        over.set()
        thread.join()


def burst(place: Deployed) -> bool:
    until_zero(place)
    took, statuses = asyncio.run(many_at_once(place))
    print(
        f"burst: {BURST} calls at once to no pod: {dict(statuses)}; p50 {took[len(took) // 2]:.2f} s, "
        f"slowest {took[-1]:.2f} s (bar 10); {len(place.pods(DOCUMENTS))} pods"
    )
    return statuses == {"200": BURST} and took[-1] <= 10


def until_zero(place: Deployed) -> None:
    deadline = time.monotonic() + ZERO_S
    while place.pods(DOCUMENTS):
        if time.monotonic() > deadline:
            raise SystemExit(f"{DOCUMENTS} still has a pod after {ZERO_S:.0f} s; does anything call it?")
        time.sleep(1)
    time.sleep(2)


async def many_at_once(place: Deployed) -> tuple[list[float], Counter[str]]:
    limits = httpx.Limits(max_connections=BURST)
    async with httpx.AsyncClient(base_url=place.gateway, headers=place.headers, timeout=60, limits=limits) as client:
        answers = await asyncio.gather(*(timed(client) for _ in range(BURST)))
    return sorted(seconds for seconds, _ in answers), Counter(status for _, status in answers)


async def timed(client: httpx.AsyncClient) -> tuple[float, str]:
    """Seconds to list documents, and the status or what failed."""
    began = time.perf_counter()
    try:
        answer = await client.get("/v1/documents")
        status = str(answer.status_code) if answer.is_success else f"{answer.status_code} {answer.text[:200]}"
    except httpx.HTTPError as failure:
        status = type(failure).__name__
    return time.perf_counter() - began, status


@asynccontextmanager
async def calling(place: Deployed) -> AsyncIterator[list[tuple[float, str]]]:
    """Calls at a steady rate, whether or not the earlier ones were answered."""
    answers: list[tuple[float, str]] = []
    calls: set[asyncio.Task[None]] = set()

    async def one(client: httpx.AsyncClient) -> None:
        answers.append(await timed(client))

    async def steadily(client: httpx.AsyncClient) -> None:
        began = time.monotonic()
        for number in range(10**9):
            await asyncio.sleep(max(0.0, began + number / CALLS_A_SECOND - time.monotonic()))
            task = asyncio.create_task(one(client))
            calls.add(task)
            task.add_done_callback(calls.discard)

    async with httpx.AsyncClient(base_url=place.gateway, headers=place.headers, timeout=60) as client:
        steady = asyncio.create_task(steadily(client))
        try:
            yield answers
        finally:
            steady.cancel()
            await asyncio.gather(*calls)


def rollouts(place: Deployed, images: tuple[str, str]) -> bool:
    took, statuses, moves = asyncio.run(under_load(place, images))
    failed = sum(count for status, count in statuses.items() if status != "200")
    print(
        f"rollouts: {moves} rollouts and rollbacks under {CALLS_A_SECOND} calls/s: {sum(statuses.values())} calls, "
        f"{failed} failed (bar 0) {dict(statuses)}; p50 {took[len(took) // 2] * 1000:.0f} ms, slowest {took[-1]:.2f} s"
    )
    return failed == 0


async def under_load(place: Deployed, images: tuple[str, str]) -> tuple[list[float], Counter[str], int]:
    """Seconds and statuses of the calls, and how many rollouts and rollbacks there were."""
    moves = 0
    async with calling(place) as answers:
        for number in range(ROLLOUTS):
            await asyncio.to_thread(roll_out, place, images[(number + 1) % 2])
            await asyncio.sleep(2)
            await asyncio.to_thread(roll_back, place)
            await asyncio.sleep(2)
            moves += 2
    return sorted(seconds for seconds, _ in answers), Counter(status for _, status in answers), moves


def roll_out(place: Deployed, image: str) -> None:
    environment, manifests = deployment.rendered(place.environment.name, image)
    deployment.deploy(place.cluster, environment, manifests, confidential=(), wait_s=READY_S)


def roll_back(place: Deployed) -> None:
    environment, manifests = deployment.rendered(place.environment.name)
    history = releases.read(place.cluster, environment)
    target = history.before()
    releases.route(place.cluster, environment, target)
    wait(place.cluster, environment, manifests, READY_S)
    releases.write(place.cluster, environment, releases.History(history.releases, target.number))


def uploads(place: Deployed) -> bool:
    prefix = f"killed-{token_hex(3)}"
    names = [f"{prefix}/{number:03d}.md" for number in range(UPLOADS)]
    began = time.monotonic()
    with killing(place, DOCUMENTS) as counted:
        for name in names:
            counted["repeated"] += upload(place.client, name)
        acknowledged_s = time.monotonic() - began
        final = until_final(place.client, prefix)
    states = Counter(str(one["state"]) for one in final.values())
    chunks = Counter(cast("int", one["chunks"]) for one in final.values())
    print(
        f"uploads: {UPLOADS} documents while {counted['killed']} pods were killed: {len(final)} there, {dict(states)}, "
        f"passages each {dict(chunks)}; {counted['repeated']} calls repeated; acknowledged in {acknowledged_s:.0f} s, "
        f"final in {time.monotonic() - began:.0f} s"
    )
    return sorted(final) == names and states == {"searchable": UPLOADS} and chunks == {1: UPLOADS}


def upload(client: Client, name: str) -> int:
    """Until it is acknowledged; how often it had to be repeated."""
    body = f"# Document {name}\n\nThe word of this document is {token_hex(8)}.\n".encode()
    for repeated in range(TRIES_MAX):
        with contextlib.suppress(Missing, Failed):
            client.call("PUT", f"/v1/documents/{name}", body, headers={"Content-Type": "text/markdown"})
            return repeated
        time.sleep(0.5)
    raise SystemExit(f"{name} could not be uploaded in {TRIES_MAX} tries")


def until_final(client: Client, prefix: str) -> dict[str, Mapping[str, object]]:
    """The documents below the prefix, once all are final, or the time is over."""
    deadline = time.monotonic() + FINAL_S
    while True:
        found: dict[str, Mapping[str, object]] = {}
        with contextlib.suppress(Missing, Failed):
            found = listed(client, prefix)
        waiting = [name for name, one in found.items() if one["state"] in ("queued", "parsing", "embedding")]
        if (len(found) == UPLOADS and not waiting) or time.monotonic() > deadline:
            return found
        time.sleep(2)


def listed(client: Client, prefix: str) -> dict[str, Mapping[str, object]]:
    from shared.cli.documents import list_documents

    return {str(one["name"]): one for one in list_documents(client) if str(one["name"]).startswith(prefix)}


def schedules(place: Deployed, minutes: int) -> bool:
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    last = first + timedelta(minutes=minutes - 1)
    with killing(place, SCHEDULES) as counted:
        time.sleep((last + timedelta(seconds=60) - datetime.now(UTC)).total_seconds())
    time.sleep(60)
    claimed = asyncio.run(ticks(first, last))
    whole = {name: nominals == minutes for name, nominals in claimed.items()}
    print(f"schedules: {minutes} minutes while {counted['killed']} pods were killed; ticks claimed: {claimed}")
    return bool(whole) and all(whole.values())


async def ticks(first: datetime, last: datetime) -> dict[str, int]:
    """How many of these minutes each every-minute schedule was claimed for, by schedule and tenant."""
    told = cast("dict[str, str]", find_home().read("host.json")["environment"])
    databases = Databases(connections_max=2)
    try:
        rows = await ControlDatabase(told["DCODER_POSTGRES_URL"], databases).fetch(
            "SELECT schedule, tenant, count(*) AS minutes FROM schedule_ticks JOIN schedules ON name = schedule"
            " WHERE cron = '* * * * *' AND nominal BETWEEN $1 AND $2 GROUP BY schedule, tenant ORDER BY 1, 2",
            first, last,
        )  # fmt: skip
        return {f"{row['schedule']} of {row['tenant']}": row["minutes"] for row in rows}
    finally:
        await databases.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=["burst", "rollouts", "uploads", "schedules", []])
    parser.add_argument("--environment", default="local")
    parser.add_argument("--gateway", default=os.environ.get("DCODER_TEST_GATEWAY", ""))
    parser.add_argument("--image", default=os.environ.get("DCODER_TEST_IMAGE", ""))
    parser.add_argument("--other", default="", help="for rollouts: another image")
    parser.add_argument("--minutes", type=int, default=30)
    wanted = parser.parse_args()
    cluster = kubectl()
    place = Deployed(
        cluster,
        load(wanted.environment),
        wanted.gateway or gateway_of(cluster, load(wanted.environment)),
        key_of(find_home(), "tenants", TENANT),
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    measures = {
        "burst": lambda: burst(place),
        "rollouts": lambda: rollouts(place, (wanted.image, wanted.other)),
        "uploads": lambda: uploads(place),
        "schedules": lambda: schedules(place, wanted.minutes),
    }
    missed = [name for name in wanted.names or list(measures) if not measures[name]()]
    print(f"missed: {', '.join(missed)}" if missed else "every bar is held", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
