"""The stores as pods of the platform's namespace, for who has none: each instead of an address in the environment.

One instance each, on a volume that outlives its pod. For more than one, bring a store of your own.
"""

from __future__ import annotations

from knative.base import pgbouncer
from knative.base.servers import servers
from knative.base.shape import budget, name_in_cluster, policy, stateful_set
from knative.environment import Environment
from knative.manifest import Manifest
from knative.placement import Group

PARTS = ("StatefulSet", "PodDisruptionBudget")


def manifests(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    """Those of the stores that are pods, and of PgBouncer; none where all are your own."""
    stores = tuple(
        manifest
        for server in servers(environment)
        for manifest in (
            policy(server, everyone, environment),
            name_in_cluster(server, environment),
            stateful_set(server, environment),
            budget(server, environment),
        )
    )
    return (*stores, *pgbouncer.manifests(everyone, environment))
