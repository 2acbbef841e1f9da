"""Handing a call on to the process of a tenant's own function."""

from __future__ import annotations

from starlette.types import ASGIApp

from shared.bundles.serving import Target as Revision
from shared.errors import Unavailable
from shared.function import Call
from shared.function.forwarding import Forwarder, Target
from shared.function.injection import ONWARD


async def handed_on(call: Call, revision: Revision) -> ASGIApp:
    """An app that answers the call from there. The token that goes with it opens that one process, for this caller, and
    what the function's types call for it. Raises `Unavailable` while there is none."""
    if revision.address is None:
        raise Unavailable(f"{revision.manifest.slug!r} is being started", retry_after_s=2)
    forwarder = await call.process.get(Forwarder)
    manifest = revision.manifest
    asked = [functions for kind, functions in ONWARD.items() if kind.__name__ in manifest.asks]
    onward: frozenset[str] = frozenset().union(*asked)
    return forwarder.app(revision.address, call, Target(manifest.function, manifest.timeout_s, onward))
