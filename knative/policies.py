"""Named rules that every rendered manifest keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from knative.manifest import POOLED, Manifest

TENANT_SECRET = "dcoder-tenant"  # noqa: S105  the name of a Secret
"""The one Secret in a tenant's own namespace."""
Rule = Callable[[Manifest], bool]
"""Whether the manifest keeps the rule."""


def template_of(manifest: Manifest) -> dict[str, Any] | None:  # Any: see Manifest
    """The revision template of a Knative Service, None for everything else."""
    served = str(manifest["apiVersion"]).startswith("serving.knative.dev/") and manifest["kind"] == "Service"
    return dict(manifest["spec"]["template"]) if served else None


def pods_of(manifest: Manifest) -> dict[str, Any] | None:  # Any: see Manifest
    """The template of the pods that it makes, None when it makes none."""
    made = manifest["kind"] in ("StatefulSet", "Deployment") or template_of(manifest) is not None
    return dict(manifest["spec"]["template"]) if made else None


def every_container(keeps: Callable[[Mapping[str, Any]], bool]) -> Rule:  # Any: see Manifest
    def rule(manifest: Manifest) -> bool:
        template = pods_of(manifest)
        return template is None or all(keeps(one) for one in template["spec"]["containers"])

    return rule


def secured(name: str, wanted: object) -> Rule:
    return every_container(lambda one: one.get("securityContext", {}).get(name) == wanted)


def image_is_pinned(container: Mapping[str, Any]) -> bool:  # Any: see Manifest
    image = str(container["image"]).rpartition("/")[2]
    return "@sha256:" in image or (":" in image and not image.endswith(":latest"))


def has_limits(container: Mapping[str, Any]) -> bool:  # Any: see Manifest
    return {"cpu", "memory"} <= set(container.get("resources", {}).get("limits", {}))


def min_scale_has_a_reason(manifest: Manifest) -> bool:
    template = template_of(manifest)
    if template is None:
        return True
    annotations = template["metadata"].get("annotations", {})
    awake = annotations.get("autoscaling.knative.dev/min-scale", "0") != "0"
    return not awake or bool(annotations.get("dcoder.dev/scale-reason"))


def tenant_is_labelled(manifest: Manifest) -> bool:
    """`pooled` or a tenant; a dedicated Service (`DCODER_TENANT`) bears its own tenant's."""
    template = pods_of(manifest)
    if template is None:
        return True
    label = template["metadata"].get("labels", {}).get("dcoder.dev/tenant")
    variables = [one for container in template["spec"]["containers"] for one in container.get("env", ())]
    dedicated = next((one.get("value") for one in variables if one["name"] == "DCODER_TENANT"), "pooled")
    return label is not None and label == dedicated


def mounts_no_token(manifest: Manifest) -> bool:
    template = pods_of(manifest)
    if template is not None:
        return template["spec"].get("automountServiceAccountToken") is False
    return manifest["kind"] != "ServiceAccount" or manifest.get("automountServiceAccountToken") is False


def dedicated_holds_its_own(manifest: Manifest) -> bool:
    """A dedicated Service names no Secret but its tenant's."""
    template = template_of(manifest)
    if template is None or template["metadata"].get("labels", {}).get("dcoder.dev/tenant") == POOLED:
        return True
    return secrets_of(template["spec"]) <= {TENANT_SECRET}


def secrets_of(pod: Mapping[str, Any]) -> set[str]:  # Any: see Manifest
    volumes = [one["secret"]["secretName"] for one in pod.get("volumes", ()) if "secret" in one]
    variables = [one for container in pod["containers"] for one in container.get("env", ())]
    sources = [source for container in pod["containers"] for source in container.get("envFrom", ())]
    single = [one["valueFrom"]["secretKeyRef"] for one in variables if "secretKeyRef" in one.get("valueFrom", {})]
    whole = [one["secretRef"] for one in sources if "secretRef" in one]
    return {*volumes, *(one["name"] for one in (*single, *whole))}


RULES: Mapping[str, Rule] = {
    "image is pinned": every_container(image_is_pinned),
    "limits are set": every_container(has_limits),
    "runs as non-root": secured("runAsNonRoot", True),
    "root file system is read-only": secured("readOnlyRootFilesystem", True),
    "no privilege escalation": secured("allowPrivilegeEscalation", False),
    "drops all capabilities": secured("capabilities", {"drop": ["ALL"]}),
    "seccomp is the runtime's": secured("seccompProfile", {"type": "RuntimeDefault"}),
    "min-scale has a reason": min_scale_has_a_reason,
    "tenant is labelled": tenant_is_labelled,
    "dedicated holds its own": dedicated_holds_its_own,
    "mounts no token": mounts_no_token,
}


def violations(manifests: Iterable[Manifest]) -> list[str]:
    return list(broken_rules(manifests))


def broken_rules(manifests: Iterable[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        for name, keeps in RULES.items():
            if not keeps(manifest):
                yield f"{manifest['kind']} {manifest['metadata']['name']}: {name}"
