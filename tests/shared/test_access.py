"""Deny by default: a role grants what it names, a scope only narrows."""

from __future__ import annotations

import pytest

from shared.access import BY_NAME, ROLES, covers, may_grant, permitted
from shared.identity import Caller
from shared.ids import TenantId


def caller(role: str, *scope: str) -> Caller:
    return Caller(TenantId("acme"), "key:k", role, "key", frozenset(scope) if scope else None)


def test_an_unknown_role_may_nothing() -> None:
    assert not permitted(caller("stranger"), "documents:read")


@pytest.mark.parametrize(
    ("role", "permission", "allowed"),
    [
        ("viewer", "documents:read", True),
        ("viewer", "documents:write", False),
        ("viewer", "keys:read", False),
        ("member", "documents:write", True),
        ("member", "secrets:write", False),
        ("admin", "secrets:write", True),
        ("admin", "tenants:write", False),
        ("operator", "tenants:write", True),
        ("operator", "documents:read", False),
        ("operator", "secrets:read", False),
        ("hook", "hooks:use", True),
        ("hook", "documents:read", False),
    ],
)
def test_a_role_may_what_it_names_and_nothing_else(role: str, permission: str, allowed: bool) -> None:
    assert permitted(caller(role), permission) is allowed


def test_a_scope_narrows_the_role() -> None:
    assert permitted(caller("admin", "documents:read"), "documents:read")
    assert not permitted(caller("admin", "documents:read"), "documents:write")


def test_a_scope_never_widens_the_role() -> None:
    assert not permitted(caller("viewer", "*:*"), "documents:write")


def test_no_key_role_reaches_every_permission() -> None:
    assert all("*:*" not in granted for role, granted in ROLES.items() if role != "system")


@pytest.mark.parametrize(
    ("role", "scope", "allowed"),
    [
        ("admin", (), False),
        ("admin", ("*:*", "passthrough:*", "*:use"), False),
        ("admin", ("passthrough:use",), True),
        ("member", ("passthrough:use",), True),
        ("viewer", ("passthrough:use",), False),
        ("operator", ("passthrough:use",), False),
    ],
)
def test_a_permission_by_name_comes_with_no_role_and_no_pattern(
    role: str, scope: tuple[str, ...], allowed: bool
) -> None:
    assert permitted(caller(role, *scope), "passthrough:use") is allowed


def test_no_role_covers_a_permission_by_name() -> None:
    assert not [one for one in BY_NAME for role, held in ROLES.items() if role != "system" and covers(held, one)]


@pytest.mark.parametrize(
    ("granting", "role", "allowed"),
    [
        (caller("admin"), "member", True),
        (caller("admin"), "viewer", False),
        (caller("admin", "keys:write"), "member", False),
        (caller("admin", "keys:write", "passthrough:use"), "member", True),
        (caller("member"), "member", False),
    ],
)
def test_an_admin_grants_it_and_so_does_who_holds_it(granting: Caller, role: str, allowed: bool) -> None:
    assert may_grant(granting, "passthrough:use", role=role) is allowed
