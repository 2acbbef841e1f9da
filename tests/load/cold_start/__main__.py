"""From no pod to the first byte, step by step: a platform function on a cluster, beside bare hello worlds there.

    python -m tests.load.cold_start [--environment local] [--gateway http://host:port] [--runs 9] [--go IMAGE]
                                    [--every] [--translator]

It wants a platform that `knative/up existing` brought up from DCODER_HOME, and kubectl on its cluster. The platform's
function lists documents: a virtual key is checked and the tenant's database is asked. The hello worlds are a plain
function under functions-framework in the same image and, with `--go`, a static program whose image
`tests.load.cold_start.go_image` makes. They have the same resources and security context, in a namespace that is made
and deleted here. All take turns. With `--every` the other Services of an environment placed by capability are started
too, each by a call that lists something of a tenant. With `--translator` there is one more: a call through the gateway,
which has a pod, of a model of a scripted provider of Anthropic's dialect, at the first address of the environment's
`private_providers`. Each start is one request to a Service that has no pod; the seconds go from opening the connection
to the answer's first byte, through Kourier, activator and queue-proxy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from knative.environment import Environment, load
from knative.kubectl import Kubectl, kubectl
from shared.cli.bringup import TENANT, gateway_of
from shared.cli.client import Client, key_of
from shared.host.home import find_home
from tests.fixtures.provider import provider_at
from tests.load.cold_start.moments import SAID, Watch
from tests.load.cold_start.targets import NAMESPACE, WINDOW, Target, delete_hello, hello_targets

SERVICE = "knowledge"
OTHERS = {
    "gateway": ("llm", "/v1/models"),
    "governance": ("platform", "/v1/keys"),
    "integrations": ("platform", "/v1/functions/{tenant}"),
}
MODEL = "claude-1"
BAR_RATIO, BAR_S, BAR_READY_S = 1.25, 1.6, 0.9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="local")
    parser.add_argument("--gateway", default=os.environ.get("DCODER_TEST_GATEWAY", ""))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--every", action="store_true", help="start the other Services too, not only one")
    parser.add_argument("--translator", action="store_true", help="start gateway-translate too, by calls of a model")
    parser.add_argument("--go", default="", help="the static hello world's image, if the nodes have it")
    wanted = parser.parse_args()
    environment, cluster = load(wanted.environment), kubectl()
    gateway = wanted.gateway or gateway_of(cluster, load(wanted.environment))
    deployed = cluster.one("ksvc", SERVICE, environment.namespace)
    if deployed is None:
        raise SystemExit(f"there is no Service {SERVICE}; bring the platform up: knative/up existing")
    key = key_of(find_home(), "tenants", TENANT)
    ours = Target(
        "platform", environment.namespace, SERVICE, f"platform.{environment.domain}",
        "/v1/documents", {"Authorization": f"Bearer {key}"}, tells_in_log=True,
    )  # fmt: skip
    others = [
        Target(
            service, environment.namespace, service, f"{host}.{environment.domain}",
            path.format(tenant=TENANT), {"Authorization": f"Bearer {key}"}, tells_in_log=True,
        )
        for service, (host, path) in (OTHERS.items() if wanted.every else ())
    ]  # fmt: skip
    watches: dict[str, Watch] = {}
    with ExitStack() as ends:
        translators = [ends.enter_context(translator(environment, gateway))] if wanted.translator else []
        container = deployed["spec"]["template"]["spec"]["containers"][0]
        ends.callback(delete_hello, cluster)
        targets = [*hello_targets(cluster, container, wanted.go), ours, *others, *translators]
        for name in (NAMESPACE, ours.namespace):
            watches[name] = Watch(cluster, name)
            ends.callback(watches[name].close)
        ends.enter_context(gone_soon(cluster, [ours, *others, *translators]))
        for _ in range(wanted.runs):
            for target in targets:
                target.start(cluster, gateway, watches[target.namespace])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {wanted.runs} starts each, from no pod")
    report(targets)
    verdict(ours, next(one for one in targets if one.service == "hello"))
    return 0


@contextmanager
def gone_soon(cluster: Kubectl, targets: Sequence[Target]) -> Iterator[None]:
    """Meanwhile the platform's pods go as soon as Knative lets them."""
    kind, place = "podautoscalers.autoscaling.internal.knative.dev", ("--namespace", targets[0].namespace)
    deployed = [cluster.one("ksvc", one.service, one.namespace) for one in targets]
    revisions = [one["status"]["latestReadyRevisionName"] for one in deployed if one]
    try:
        cluster.run("annotate", kind, *revisions, *place, "--overwrite", *(f"{a}={b}" for a, b in WINDOW.items()))
        yield
    finally:
        cluster.run("annotate", kind, *revisions, *place, *(f"{name}-" for name in WINDOW))


@contextmanager
def translator(environment: Environment, gateway: str) -> Iterator[Target]:
    """The function that translates, as a caller of the gateway meets it, and a provider for it."""
    if environment.translate_image is None or not environment.private_providers:
        raise SystemExit(f"environment {environment.name!r} has no translate_image, or no private_providers")
    place, key = environment.private_providers[0], key_of(find_home(), "tenants", TENANT)
    with provider_at(place.cidr.partition("/")[0], place.port) as provider:
        told = {"kind": "anthropic", "base_url": provider.origin, "api_key": "sk-scripted", "models": [MODEL]}
        platform = Client(gateway, key, host=f"platform.{environment.domain}")
        platform.call("PUT", "/v1/secrets/providers/cold-start", told)
        asked = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Greet me."}]}
        yield Target(
            "translator", environment.namespace, "gateway-translate", f"llm.{environment.domain}",
            "/v1/chat/completions", {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            tells_in_log=True, body=json.dumps(asked).encode(), warm="/v1/models",
        )  # fmt: skip
        platform.call("DELETE", "/v1/secrets/providers/cold-start")


def report(targets: Sequence[Target]) -> None:
    """For each moment that the platform has, the median of the seconds after the request; then the spread."""
    print(f"  {'median seconds after the request':<54}" + "".join(f"{one.name:>17}" for one in targets))
    for moment, said in SAID.items():
        cells = (f"{middle(one, moment):>17.2f}" if moment in one.starts[0] else " " * 17 for one in targets)
        print(f"  {said:<54}" + "".join(cells))
    for said, pick in (("best", min), ("worst", max)):
        print(f"  {said:<54}" + "".join(f"{pick(start['byte'] for start in one.starts):>17.2f}" for one in targets))


def middle(target: Target, moment: str) -> float:
    return statistics.median(start[moment] for start in target.starts)


def verdict(ours: Target, hello: Target) -> None:
    median = middle(ours, "byte")
    print(f"  platform / framework hello {median / middle(hello, 'byte'):.2f}   bar {BAR_RATIO}")
    print(f"  platform                   {median:.2f} s   bar {BAR_S} s")
    takes = statistics.median(max(one["built"], one.get("connected", 0)) - one["process"] for one in ours.starts)
    print(f"  process → able to serve    {takes:.2f} s   bar {BAR_READY_S} s")


if __name__ == "__main__":
    sys.exit(main())
