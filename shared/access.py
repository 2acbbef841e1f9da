"""The one place that decides whether a caller may do something. Attribute-based rules will replace `permitted`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.identity import Caller

ROLES: Mapping[str, frozenset[str]] = {
    "operator": frozenset(
        {
            "tenants:*", "keys:*", "quotas:*", "prices:*", "audit:read", "usage:read", "events:*", "schedules:*",
            "platform:*", "functions:*",
        }
    ),
    "admin": frozenset(
        {
            "documents:*", "keys:*", "quotas:*", "prices:*", "secrets:*", "models:use", "usage:read", "audit:read",
            "events:*", "schedules:read", "tenants:export", "guardrails:*", "cache:*", "aliases:*", "functions:read",
            "functions:use",
        }
    ),
    "member": frozenset({"documents:*", "models:use", "usage:read", "quotas:read", "functions:use"}),
    "viewer": frozenset({"documents:read", "models:use", "functions:use"}),
    "hook": frozenset({"hooks:use"}),
    "system": frozenset({"*:*"}),
}  # fmt: skip
"""What each role may do. `system` is the platform's own delivery of events and schedule ticks, never a key's role."""

KEY_ROLES = ("operator", "admin", "member", "viewer")


def permitted(caller: Caller, permission: str) -> bool:
    """Whether the caller's role grants the permission and its own scope, where it has one, does not narrow it away."""
    granted = ROLES.get(caller.role, frozenset())
    if not covers(granted, permission):
        return False
    return caller.permissions is None or covers(caller.permissions, permission)


def covers(granted: Iterable[str], permission: str) -> bool:
    """Whether one of `granted` (`documents:read`, `documents:*` or `*:*`) includes the permission."""
    resource, _, verb = permission.partition(":")
    return any(
        pattern == permission or pattern == "*:*" or pattern == f"{resource}:*" or pattern == f"*:{verb}"
        for pattern in granted
    )
