"""A cluster made to run the revisions of a tenant's own function that calls are wished to go to, and no others."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.cli.failures import Failed
from shared.cli.output import say
from shared.cli.readiness import say_waiting
from shared.cli.settling import Place, credentials
from shared.host.dedications import SETTLED_S
from shared.ids import TenantId

if TYPE_CHECKING:
    from shared.bundles.revisions import Kept


def settle(place: Place, tenant: str, name: str, *, wait_s: int) -> None:
    """Apply what is wished, tell the platform where each answers, and take off what no calls go to any more."""
    from knative import dedications, revisions

    owner, path = TenantId(tenant), f"/v1/functions/{tenant}/{name}"
    traffic = place.operator.call("GET", path).json()["traffic"]
    assert isinstance(traffic, Mapping)
    kept = [kept_of(place, owner, name, int(one)) for one in traffic]
    revisions.apply(place.cluster, owner, kept, credentials(place, owner))
    rendered = revisions.manifests(place.cluster, owner, kept)
    dedications.wait(place.cluster, owner, rendered, timeout_s=wait_s, report=say_waiting())
    for one in kept:
        address = revisions.address_of(one, place.cluster.environment)
        place.operator.call("PUT", f"{path}/revisions/{one.revision}/address", {"address": address})
        say(f"✓ revision {one.revision} of {name} is at {address}")
    over = sorted(set(running(place, tenant, name)) - {revisions.name_of(one) for one in kept})
    if over:
        time.sleep(SETTLED_S)
        revisions.remove(place.cluster, owner, over)


def settle_all(place: Place, *, wait_s: int) -> None:
    """Every revision that is there as it is wished, on the image that serves. Shares of the calls stay as they are."""
    from knative import revisions

    for tenant, names in sorted(revisions.there(place.cluster).items()):
        functions = {match["function"] for name in names if (match := revisions.NAME.fullmatch(name))}
        for function in sorted(functions):
            name = function.removeprefix("own-")
            try:
                settle(place, tenant, name, wait_s=wait_s)
            except Failed as refused:
                if "404" not in refused.why:
                    raise
                take_off(place, tenant, name)


def log_lines(place: Place, tenant: str, service: str, *, lines: int, follow: bool) -> list[str]:
    """What the pods of a revision's Service wrote last; with `follow` that is printed, and what comes until Ctrl-C.

    Raises `Failed` when there is no pod, for a pod takes its log along.
    """
    from knative import revisions

    asked = revisions.log_of(place.cluster, TenantId(tenant), service, lines=lines)
    if not asked:
        raise Failed(
            f"{service} has no pod, and so no log",
            why="a revision sleeps until it is called, and without a share of the calls it does not run",
            fix="call it and run this again, or look where your cluster collects logs",
        )
    if follow:
        place.cluster.kubectl.passed_on(*asked, "--follow")
        return []
    return place.cluster.kubectl.run(*asked).splitlines()


def take_off(place: Place, tenant: str, name: str) -> None:
    """Every revision of a function that the platform has forgotten."""
    from knative import revisions

    time.sleep(SETTLED_S)
    revisions.remove(place.cluster, TenantId(tenant), running(place, tenant, name))


def running(place: Place, tenant: str, name: str) -> list[str]:
    """The names of the function's Services that are there."""
    from knative import tenants
    from knative.apply import SERVICES

    environment = place.cluster.environment
    where = ("--namespace", tenants.namespace_of(TenantId(tenant), environment))
    found = place.cluster.kubectl.find(SERVICES, *where, "--selector", tenants.selector(environment))
    form = re.compile(rf"own-{re.escape(name)}-\d+")
    return [one["metadata"]["name"] for one in found if form.fullmatch(one["metadata"]["name"])]


def kept_of(place: Place, tenant: TenantId, name: str, revision: int) -> Kept:
    """A revision with its signed bundle, as the platform keeps it."""
    from shared.bundles.revisions import Kept
    from shared.bundles.signing import Sealed

    told = place.operator.call("GET", f"/v1/functions/{tenant}/{name}/revisions/{revision}").json()
    parts = (base64.b64decode(str(told[part])) for part in ("archive", "statement", "signature"))
    return Kept(tenant, name, revision, Sealed(*parts), None)
