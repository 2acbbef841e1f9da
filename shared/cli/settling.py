"""A cluster made to hold the tenants' own Services that the platform's API tells of, and no others."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.cli.bringup import gateway_of
from shared.cli.client import Client, key_of
from shared.cli.cluster import cluster_of
from shared.cli.output import rows_of, say
from shared.cli.readiness import say_waiting
from shared.function.dedication import NEVER_GRANTED, OBJECT_KEY, OBJECTS_URL
from shared.host.dedications import SETTLED_S
from shared.host.home import find_home
from shared.ids import TenantId
from shared.settings import NOT_GRANTED

if TYPE_CHECKING:
    from knative.dedications import Cluster
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from shared.settings import Settings
    from shared.tenancy.dedications import Credentials


UNUSED = (*NEVER_GRANTED, OBJECTS_URL, *OBJECT_KEY, "DCODER_PLATFORM_URL", "DCODER_LLM_URL")
"""`Settings` wants every variable, and credentials are read from the control database alone."""


@dataclass(frozen=True)
class Place:
    """A platform on a cluster, and its operator's way to its API."""

    cluster: Cluster
    operator: Client
    keys: Path | None


def place_of(name: str, *, gateway: str, keys: Path | None, context: str) -> Place:
    """Raises `Missing` without kubectl, a gateway or an operator's key."""
    from knative.environment import load

    kubectl = cluster_of(context)
    return place_at(kubectl, as_released(kubectl, load(name)), gateway=gateway, keys=keys)


def as_released(kubectl: Kubectl, environment: Environment) -> Environment:
    """With the image that serves now: tenants' own processes are of the same version as the pooled ones."""
    from knative import releases
    from knative.environment import with_image

    history = releases.read(kubectl, environment)
    serving = next((one for one in history.releases if one.number == history.current), None)
    return with_image(environment, serving.image) if serving else environment


def place_at(kubectl: Kubectl, environment: Environment, *, gateway: str, keys: Path | None) -> Place:
    key = key_of(find_home(), "admin_key", None)
    operator = Client(gateway or gateway_of(kubectl, environment), key, host=f"platform.{environment.domain}")
    return Place(cluster_at(kubectl, environment), operator, keys)


def cluster_at(kubectl: Kubectl, environment: Environment) -> Cluster:
    from knative.dedications import Cluster
    from shared.function import catalog

    return Cluster(kubectl, environment, {one.name: one for one in catalog.find()})


def roll(kubectl: Kubectl, environment: Environment, *, wait_s: int) -> None:
    """The Services of tenants that are there, with the environment's image. Their Secrets stay as they are."""
    from knative import dedications, revisions

    cluster = cluster_at(kubectl, environment)
    for tenant, functions in dedications.there(cluster).items():
        if functions:
            dedications.apply(cluster, tenant, functions, None)
            rendered = dedications.manifests(cluster, tenant, functions)
            dedications.wait(cluster, tenant, rendered, timeout_s=wait_s, report=say_waiting())
    for tenant, names in revisions.there(cluster).items():
        rolled = revisions.roll(cluster, tenant, sorted(names))
        dedications.wait(cluster, tenant, rolled, timeout_s=wait_s, report=say_waiting())


def settle(place: Place, *, wait_s: int, only: str = "") -> None:
    """Apply what is wished and tell the platform where it is; take off what is to end, when nobody uses it any more."""
    from knative import dedications

    found = {
        (TenantId(str(one["tenant"])), str(one["function"])): one
        for one in rows_of(place.operator.call("GET", "/v1/dedications").json(), "dedications")
    }
    there = dedications.there(place.cluster)
    wished = {key for key, one in found.items() if one["state"] != "ending"}
    for tenant in sorted({key[0] for key in found} | set(there)):
        if only in ("", tenant):
            functions = [function for owner, function in sorted(wished) if owner == tenant]
            if functions:
                serve(place, tenant, functions, found=found, wait_s=wait_s)
            over = [one for one in there.get(tenant, ()) if one not in functions]
            ending = [function for owner, function in found if owner == tenant and function not in functions]
            take_off(place, tenant, over, ending=ending, is_there=tenant in there and not (functions and not over))


def serve(
    place: Place,
    tenant: TenantId,
    functions: list[str],
    *,
    found: Mapping[tuple[TenantId, str], Mapping[str, object]],
    wait_s: int,
) -> None:
    from knative import dedications, tenants

    dedications.apply(place.cluster, tenant, functions, credentials(place, tenant))
    rendered = dedications.manifests(place.cluster, tenant, functions)
    dedications.wait(place.cluster, tenant, rendered, timeout_s=wait_s, report=say_waiting())
    for function in functions:
        address = tenants.origin_of(tenant, function, place.cluster.environment)
        if found[tenant, function]["address"] != address:
            place.operator.call("PUT", f"/v1/dedications/{tenant}/{function}/address", {"address": address})
            say(f"✓ {function} of tenant {tenant} is at {address}")


def take_off(place: Place, tenant: TenantId, over: list[str], *, ending: list[str], is_there: bool) -> None:
    from knative import dedications

    if is_there:
        time.sleep(SETTLED_S)
        for one in dedications.remove(place.cluster, tenant, over):
            say(f"✓ {one} is gone")
    for function in ending:
        place.operator.call("DELETE", f"/v1/dedications/{tenant}/{function}/address")


def credentials(place: Place, tenant: TenantId) -> Credentials | None:
    """By the platform's addresses and keys; None where these are not: its Secret has to be there then."""
    import asyncio

    from shared.errors import Fault
    from shared.function.dedication import credentials_of

    try:
        settings = settings_of(place.keys)
    except Fault:
        return None
    return asyncio.run(credentials_of(settings, tenant))


def settings_of(keys: Path | None) -> Settings:
    """From the process's environment, and what it lacks from the host that runs in DCODER_HOME. Raises `Fault`."""
    from shared.settings import Settings

    home = find_home()
    told = home.read("host.json").get("environment")
    host = {str(name): str(value) for name, value in told.items()} if isinstance(told, Mapping) else {}
    unused = dict.fromkeys(UNUSED, NOT_GRANTED)
    given = {name: value for name, value in os.environ.items() if name.startswith("DCODER_") and value}
    return Settings.from_environment(
        {**unused, **host, **given, "DCODER_SECRETS_DIR": str(keys or home.secrets), "DCODER_TENANT": ""}
    )
