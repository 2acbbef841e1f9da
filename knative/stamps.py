"""What of the Secrets a revision reads, as a keyed hash in its annotations: changed values make a new revision.

A pod gets its variables when it starts, so without a new revision those that run would keep the old values.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from knative.environment import Environment
from knative.kubectl import Kubectl
from knative.manifest import Manifest
from knative.policies import pods_of

ANNOTATION = "dcoder.dev/secrets"
PURPOSE = b"dcoder.dev/secrets of a revision"
Values = Mapping[str, Mapping[str, str]]
"""Secret → key → value as Kubernetes keeps it, base64."""


def stamped(manifests: Iterable[Manifest], values: Values, environment: Environment) -> tuple[Manifest, ...]:
    """The manifests, those that make pods with their hash; none has one while there is no root key to key it."""
    root = values.get(environment.keys_secret, {}).get("root.key")
    if root is None:
        return tuple(manifests)
    key = hmac.digest(root.encode(), PURPOSE, hashlib.sha256)
    return tuple(with_stamp(one, values, key) for one in manifests)


def with_stamp(manifest: Manifest, values: Values, mac_key: bytes) -> Manifest:
    template = pods_of(manifest)
    if template is None:
        return manifest
    read = [(one, key, values.get(one, {}).get(key)) for one, key in sorted(set(reads(template["spec"], values)))]
    stamp = hmac.new(mac_key, json.dumps(read).encode(), hashlib.sha256).hexdigest()[:32]
    annotations = {**template["metadata"].get("annotations", {}), ANNOTATION: stamp}
    marked = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    return {**manifest, "spec": {**manifest["spec"], "template": marked}}


def reads(spec: Mapping[str, Any], values: Values) -> Iterator[tuple[str, str]]:  # Any: see Manifest
    """Secret and key of each variable and file of a pod."""
    for container in spec["containers"]:
        for one in container["env"]:
            if reference := one.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"], reference["key"]
    for volume in spec["volumes"]:
        if mounted := volume.get("secret"):
            name = mounted["secretName"]
            keys = [item["key"] for item in mounted["items"]] if "items" in mounted else values.get(name, {})
            yield from ((name, key) for key in keys)


def values_of(secrets: Iterable[Manifest]) -> dict[str, Mapping[str, str]]:
    return {one["metadata"]["name"]: one["data"] for one in secrets}


def stored(cluster: Kubectl, environment: Environment, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """What the cluster has of the named Secrets."""
    found = (cluster.one("secret", name, environment.namespace) for name in names)
    return {one["metadata"]["name"]: one.get("data", {}) for one in found if one is not None}
