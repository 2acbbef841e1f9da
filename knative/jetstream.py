"""The Broker class on NATS JetStream (broker-jsm.yaml of `eventing-natss` 1.22): what it is told, whom it may reach.

Its ingress and its controller are in `knative-eventing`. What hands a Broker's events on is a pod beside the Broker, in
the platform's namespace, under a service account that watches Triggers at the API server.
"""

from __future__ import annotations

import json

from knative import network
from knative.environment import Environment, JetStream
from knative.manifest import BROKER, Manifest
from shared.events.stream import DUPLICATES_S

BROKER_NAMESPACE = "knative-eventing"
INGRESS = "nats-broker-ingress"
DEPLOYMENTS = ("natsjetstream-broker-controller", INGRESS)
FILTER = f"{BROKER}-broker-filter"
FILTER_LABELS = {"eventing.knative.dev/broker": BROKER, "eventing.knative.dev/role": "filter"}
CONFIG = "natsjetstream.eventing.knative.dev/config"
MIB = 1024 * 1024


def notes(jetstream: JetStream) -> dict[str, str]:
    """Annotations of the Broker. Without them its stream would have no bound."""
    stream = {
        "maxAge": f"{jetstream.keep_hours}h",
        "maxBytes": jetstream.keep_mib * MIB,
        "replicas": jetstream.replicas,
        "duplicateWindow": f"{DUPLICATES_S:.0f}s",
    }
    # A batch is handed on one after the other, and all of it must be done within one event's timeout.
    one_by_one = [{"name": "CONSUMER_FETCH_BATCH_SIZE", "value": "1"}]
    bounds = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    return {CONFIG: json.dumps({"stream": stream, "filter": {"env": one_by_one, "resources": bounds}})}


def manifests(environment: Environment) -> tuple[Manifest, ...]:
    """The policy of the pod that hands events on; none for another class of Broker."""
    jetstream = environment.broker.jetstream
    if jetstream is None:
        return ()
    nats, api = jetstream.nats, jetstream.api_server
    kept = network.pods("nats") if nats.pod else {"ipBlock": {"cidr": nats.cidr}}
    egress = [
        network.names(),
        {"to": [kept], "ports": [network.tcp(nats.port)]},
        {"to": [{"ipBlock": {"cidr": api.cidr}}], "ports": [network.tcp(api.port)]},
        {"to": [network.namespace("kourier-system")]},
    ]
    spec = {
        "podSelector": {"matchLabels": FILTER_LABELS},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": egress,
    }
    return (network.policy(FILTER, environment, spec),)


def told(nats_url: str) -> tuple[Manifest, Manifest]:
    """Where NATS is: the controller's ConfigMap, and a patch of Deployment `INGRESS`, after the release file."""
    attempts = {"retryOnFailedConnect": True, "maxReconnects": 60, "reconnectWaitMilliseconds": 2000}
    settings = {"url": nats_url, "connOpts": attempts}
    metadata = {"namespace": BROKER_NAMESPACE}
    container = {"name": "ingress", "env": [{"name": "NATS_URL", "value": nats_url}]}
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**metadata, "name": "config-nats-broker"},
            "data": {"eventing-nats": json.dumps(settings)},
        },
        {"spec": {"template": {"spec": {"containers": [container]}}}},
    )
