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
            "events:*", "schedules:read", "tenants:export", "guardrails:*", "cache:*", "aliases:*", "compression:*",
            "functions:read", "functions:use", "responses:*",
        }
    ),
    "member": frozenset(
        {
            "documents:*", "models:use", "usage:read", "quotas:read", "functions:use", "responses:*", "cache:feedback",
        }
    ),
    "viewer": frozenset({"documents:read", "models:use", "functions:use", "responses:*"}),
    "hook": frozenset({"hooks:use"}),
    "system": frozenset({"*:*"}),
}  # fmt: skip
"""What each role may do. `system` is the platform's own delivery of events and schedule ticks, never a key's role."""

BY_NAME: Mapping[str, frozenset[str]] = {"passthrough:use": frozenset({"admin", "member"})}
"""Permissions that no role and no pattern brings along: a key has one only if it was made with it, by its name. And the
roles that such a key can have."""

KEY_ROLES = ("operator", "admin", "member", "viewer")


def permitted(caller: Caller, permission: str) -> bool:
    """Whether the caller's role grants the permission and its own scope, where it has one, does not narrow it away."""
    if permission in BY_NAME and caller.role != "system":
        return caller.role in BY_NAME[permission] and permission in (caller.permissions or ())
    granted = ROLES.get(caller.role, frozenset())
    if not covers(granted, permission):
        return False
    return caller.permissions is None or covers(caller.permissions, permission)


def may_grant(caller: Caller, permission: str, *, role: str) -> bool:
    """Whether the caller may make a key of that role with this permission: one that it holds itself, or, of those by
    name, as an admin whose own key is not narrowed."""
    if permission in BY_NAME:
        own = caller.role == "admin" and caller.permissions is None
        return role in BY_NAME[permission] and (own or permitted(caller, permission))
    held = ROLES[caller.role] if caller.permissions is None else caller.permissions
    return covers(held, permission) and covers(ROLES[caller.role], permission)


def covers(granted: Iterable[str], permission: str) -> bool:
    """Whether one of `granted` (`documents:read`, `documents:*` or `*:*`) includes the permission."""
    resource, _, verb = permission.partition(":")
    return any(
        pattern == permission or pattern == "*:*" or pattern == f"{resource}:*" or pattern == f"*:{verb}"
        for pattern in granted
    )
