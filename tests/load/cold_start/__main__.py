"""From no pod to the first byte, step by step: a platform function on a cluster, beside bare hello worlds there.

    python -m tests.load.cold_start [--environment local] [--gateway http://host:port] [--runs 9] [--go IMAGE]

It wants a platform that `knative/up existing` brought up from DCODER_HOME, and kubectl on its cluster. The platform's
function lists documents: a virtual key is checked and the tenant's database is asked. The hello worlds are a plain
function under functions-framework in the same image and, with `--go`, a static program whose image
`tests.load.cold_start.go_image` makes. They have the same resources and security context, in a namespace that is made
and deleted here. All take turns. Each start is one request to a Service that has no pod; the seconds go from opening
the connection to the answer's first byte, through Kourier, activator and queue-proxy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence

from knative.environment import load
from knative.kubectl import kubectl
from shared.cli.bringup import TENANT, gateway_of
from shared.cli.client import key_of
from shared.host.home import find_home
from tests.load.cold_start.moments import SAID, Watch
from tests.load.cold_start.targets import NAMESPACE, WINDOW, Target, delete_hello, hello_targets

SERVICE = "knowledge"
BAR_RATIO, BAR_S, BAR_READY_S = 1.25, 1.6, 0.9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="local")
    parser.add_argument("--gateway", default=os.environ.get("DCODER_TEST_GATEWAY", ""))
    parser.add_argument("--runs", type=int, default=9)
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
    revision = deployed["status"]["latestReadyRevisionName"]
    quick = [f"{name}={value}" for name, value in WINDOW.items()]
    slow = [f"{name}-" for name in WINDOW]
    annotate = ("annotate", "podautoscalers.autoscaling.internal.knative.dev", revision, "--namespace", ours.namespace)
    watches: dict[str, Watch] = {}
    try:
        container = deployed["spec"]["template"]["spec"]["containers"][0]
        targets = [*hello_targets(cluster, container, wanted.go), ours]
        watches |= {name: Watch(cluster, name) for name in (NAMESPACE, ours.namespace)}
        cluster.run(*annotate, "--overwrite", *quick)
        for _ in range(wanted.runs):
            for target in targets:
                target.start(cluster, gateway, watches[target.namespace])
    finally:
        for watch in watches.values():
            watch.close()
        cluster.run(*annotate, *slow)
        delete_hello(cluster)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {wanted.runs} starts each, from no pod")
    report(targets)
    verdict(ours, next(one for one in targets if one.service == "hello"))
    return 0


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
