"""What the process of a tenant's own function is given: by the types that the function asks for, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping

from shared.bundles.manifest import Manifest
from shared.function.injection import TENANT_GRANTS

ALWAYS = frozenset({"issuer-key"})
"""The public key that proves the bundle, and who calls."""
BY_NAME: Mapping[str, frozenset[str]] = {kind.__name__: grants for kind, grants in TENANT_GRANTS.items()}


def grants_of(manifest: Manifest) -> frozenset[str]:
    """`postgres` also for a route that changes something: the change is committed with its audit record."""
    changes = frozenset({"postgres"}) if any(route.changes for route in manifest.routes) else frozenset()
    return ALWAYS.union(changes, *(BY_NAME[name] for name in manifest.asks))
