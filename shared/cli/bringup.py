"""`deploy up|down`, which `knative/up` and `knative/down` call: stores, secrets, functions, and a question answered."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import click

from shared.cli import cluster as deployment
from shared.cli import machines
from shared.cli.client import Client, keep_tenant_key, key_of
from shared.cli.cluster import WAIT_S, cluster_of, context_option
from shared.cli.documents import ask, wait_until_final
from shared.cli.failures import Failed, Missing, Misused
from shared.cli.keys import create_key
from shared.cli.output import Result, command, say
from shared.cli.stores import prepared
from shared.host.home import Home, find_home

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.machines import Machine

TARGETS = ("existing", "kind", "k3s")
EMBEDDED = {"postgres", "redis", "objects"}
"""What this machine can run for a cluster; where one of them is a pod, the others are by address."""
ON_A_MACHINE = "pods"
"""The environment of kind and k3s: there are no stores but those of the cluster."""
TENANT = "smoke"
QUESTION = "How many days does the harbour office keep a lost umbrella?"
DOCUMENT = b"# Lost property\n\nThe harbour office keeps a lost umbrella for 41 days. Then the lighthouse gets it.\n"
SEARCHABLE_S = 120.0
STORES_HELP = "here: start them on this machine, at the environment's address. given: by DCODER_* URLs."

archive_option = click.option(
    "--archive",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="kind, k3s: load this image onto the node, from `dcoder image build`, and use it.",
)
mirror_option = click.option(
    "--mirror",
    default="https://github.com",
    show_default=True,
    help="kind, k3s: where Knative's release files are, checked by checksum; file:///folder works too.",
)


def up_text(result: Result) -> str:
    if result["dry_run"]:
        return "\n".join([*(str(one) for one in cast("list[str]", result["applied"])), "nothing was changed"])
    return "\n".join(
        [
            f"Q  {QUESTION}",
            f"A  {result['answer']}",
            "",
            f"  gateway    {result['gateway']}",
            f"  platform   {result['platform_url']}",
            f"  LLM        {result['llm_url']}/v1",
        ]
    )


@command(up_text, name="up")
@click.argument("target", type=click.Choice(TARGETS))
@click.argument("environment", default="")
@click.option("--image", default="", help="Instead of the environment's.")
@archive_option
@mirror_option
@click.option("--stores", type=click.Choice(["here", "given"]), default="here", show_default=True, help=STORES_HELP)
@click.option("--gateway", default="", help="Where the ingress answers, http://host:port; else the cluster is asked.")
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, help="Seconds until everything must be ready.")
@click.option("--dry-run", is_flag=True, help="Check the cluster and say what would be applied; change nothing.")
@context_option
def up_command(
    *,
    target: str,
    environment: str,
    image: str,
    archive: Path | None,
    mirror: str,
    stores: str,
    gateway: str,
    wait_s: int,
    dry_run: bool,
    context: str,
) -> Result:
    """Bring ENVIRONMENT up and ask it a question. Safe to repeat; without ENVIRONMENT it is `local`, or `pods`.

    TARGET existing: on a cluster with Knative. kind, k3s: on one that is made here, and gets Knative.
    """
    from shared.cli import revisions
    from shared.cli.settling import place_at, settle

    if target != "existing":
        named = image or (machines.image_of(archive) if archive else "")
        machine = machine_of(target)
        place, manifests = deployment.rendered(environment or ON_A_MACHINE, named)
        wanted = machines.Wanted(archive, mirror)
        if dry_run:
            return {"ok": True, "dry_run": True, "applied": machines.plan(machine, place, wanted)}
        machines.bring_up(machine, place, wanted)
        context, gateway = machine.context, gateway or machines.gateway_of(machine, place)
    else:
        place, manifests = deployment.rendered(environment or "local", image)
    cluster = cluster_of(context)
    deployment.check(cluster, place, manifests)
    say(f"✓ the cluster takes environment {place.name!r}")
    if dry_run:
        return deployment.dry(cluster, place, manifests)
    if stores == "here" and not place.pods.keys() & EMBEDDED:
        start_stores(place)
        say(f"✓ stores at {urlsplit(place.objects.url).hostname}")
    confidential = prepared(cluster, place, manifests, keys=None, wait_s=wait_s)
    done = deployment.deploy(cluster, place, manifests, confidential=confidential, wait_s=wait_s)
    say(f"✓ release {done['release']} is ready in namespace {place.namespace!r}")
    origin = gateway or gateway_of(cluster, place)
    at = place_at(cluster, place, gateway=origin, keys=None)
    settle(at, wait_s=wait_s)
    revisions.settle_all(at, wait_s=wait_s)
    answered = smoke(place, origin, find_home())
    scheme = "https" if place.tls_secret else "http"
    return {
        "ok": True, "dry_run": False, "release": done["release"], "gateway": origin, **answered,
        "platform_url": f"{scheme}://platform.{place.domain}", "llm_url": f"{scheme}://llm.{place.domain}",
    }  # fmt: skip


@command(lambda result: str(result["message"]), name="down")
@click.argument("target", type=click.Choice(TARGETS))
@click.argument("environment", default="")
@click.option("--wipe", is_flag=True, help="Required where stores are pods: their volumes go with the namespace.")
@context_option
def down_command(target: str, environment: str, wipe: bool, context: str) -> Result:
    """Take ENVIRONMENT off the cluster and stop the stores of DCODER_HOME, whose data stays.

    TARGET kind, k3s: then delete, or stop, the cluster that `up` made.
    """
    from knative import apply
    from shared.cli.lifecycle import stop_host

    place, _ = deployment.rendered(environment or ("local" if target == "existing" else ON_A_MACHINE))
    if place.pods and not wipe:
        raise Misused(
            f"the data of {', '.join(place.pods)} would go with namespace {place.namespace!r}",
            fix=f"knative/down {target} {place.name} --wipe",
        )
    if target == "existing":
        deleted = apply.delete(cluster_of(context), place)
    else:
        deleted = machines.take_off(machine_of(target), place)
    stopped = stop_host(find_home())
    message = f"{', '.join(deleted) or 'nothing'} deleted; the stores {'are stopped' if stopped else 'did not run'}"
    return {"ok": True, "deleted": deleted, "stopped": stopped, "message": message}


def machine_of(target: str) -> Machine:
    from knative.machines import MACHINES

    return MACHINES[target]


def start_stores(environment: Environment) -> None:
    """The embedded stores at the address that the environment's functions reach. Raises `Failed`."""
    from shared.cli.lifecycle import start_detached
    from shared.host.stack import STORES_ONLY

    os.environ[STORES_ONLY] = "true"
    os.environ["DCODER_LISTEN"] = str(urlsplit(environment.objects.url).hostname)
    home = find_home()
    start_detached(home)
    if not home.read("host.json").get("stores_only"):
        raise Failed(
            "a whole stack runs in DCODER_HOME, which would answer the schedules too",
            fix="dcoder down, or another DCODER_HOME",
        )


def gateway_of(cluster: Kubectl, environment: Environment) -> str:
    """Where the ingress answers from outside: Kourier's load balancer, else a node's port. Raises `Missing`."""
    if environment.routes != "kourier":
        raise Missing(f"where {environment.routes} answers is not known", fix="name your ingress with --gateway")
    service = cluster.one("service", "kourier", "kourier-system")
    if service is None:
        raise Missing("there is no Service kourier in kourier-system", fix="name your ingress with --gateway")
    scheme, wanted = ("https", 443) if environment.tls_secret else ("http", 80)
    balanced = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    if balanced:
        return f"{scheme}://{balanced[0].get('ip') or balanced[0].get('hostname')}"
    ports = [one["nodePort"] for one in service["spec"]["ports"] if one["port"] == wanted and one.get("nodePort")]
    if not ports:
        raise Missing(
            f"kourier has neither a load balancer nor a node port for {scheme}", fix="name your ingress with --gateway"
        )
    addresses = cluster.find("nodes")[0]["status"]["addresses"]
    node = next(one["address"] for one in addresses if one["type"] == "InternalIP")
    return f"{scheme}://{node}:{ports[0]}"


def smoke(environment: Environment, gateway: str, home: Home) -> dict[str, object]:
    """A tenant, a document through the ingress, a question; the answer must cite the document. Raises `Failed`."""
    platform, llm = (f"{name}.{environment.domain}" for name in ("platform", "llm"))
    client = smoke_client(gateway, platform, home)
    name = f"lost-property-{secrets.token_hex(3)}.md"
    stored = client.call("PUT", f"/v1/documents/{name}", DOCUMENT, headers={"Content-Type": "text/markdown"}).json()
    began = time.monotonic()
    (document,) = wait_until_final(client, {name: str(stored.get("etag", ""))}, SEARCHABLE_S)
    if document["state"] != "searchable":
        raise Failed(f"the document is {document['state']}", why=str(document.get("detail", "")))
    say(f"✓ a document was searchable {time.monotonic() - began:.1f} s after its upload")
    answered = ask(Client(gateway, client.key, host=llm), QUESTION)
    citations = answered["citations"]
    if not isinstance(citations, list) or not any("lost-property" in str(one) for one in citations):
        raise Failed("the answer cites nothing of the document", why=str(answered["answer"])[:500])
    say("✓ a question was answered with citations")
    return {"answer": answered["answer"], "citations": citations, "tenant": TENANT}


def smoke_client(gateway: str, host: str, home: Home) -> Client:
    """The tenant of the smoke test by its kept key, or by another one where its data went and nobody knows that key."""
    kept = home.read("secrets/keys.json").get("tenants")
    if isinstance(kept, dict) and kept.get(TENANT):
        client = Client(gateway, str(kept[TENANT]), host=host)
        if knows(client):
            return client
    operator = Client(gateway, key_of(home, "admin_key", None), host=host)
    return Client(gateway, smoke_key(operator, home), host=host)


def knows(client: Client) -> bool:
    try:
        client.call("GET", "/v1/documents")
    except Failed as failure:
        if "401" not in failure.why:
            raise
        return False
    return True


def smoke_key(operator: Client, home: Home) -> str:
    """A fresh key of the tenant of the smoke test, which is made where it is missing."""
    try:
        operator.call("POST", "/v1/tenants", {"name": TENANT})
    except Failed as failure:
        if "409" not in failure.why:
            raise
    key = str(create_key(operator, TENANT, "admin", name="smoke")["key"])
    keep_tenant_key(home, TENANT, key)
    return key
