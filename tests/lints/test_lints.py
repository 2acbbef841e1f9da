"""The house lints hold for the tree, and each is shown to catch a seeded violation."""

from __future__ import annotations

from pathlib import Path

from tests.lints import connections, vendors

ROOT = Path(__file__).resolve().parents[2]


def test_every_vendor_is_imported_by_its_owner_only_and_lazily() -> None:
    assert vendors.check(ROOT) == []


def test_no_connection_is_opened_outside_its_owner() -> None:
    assert connections.check(ROOT) == []


def test_a_vendor_import_in_a_function_is_found() -> None:
    assert list(vendors.violations("functions/a/b/function.py", "def f():\n    import boto3\n"))


def test_a_vendor_import_at_the_top_of_its_owner_is_found() -> None:
    assert list(vendors.violations("shared/redis/cache.py", "import redis.asyncio\n"))


def test_a_vendor_import_for_the_type_checker_is_free() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncpg\n"
    assert not list(vendors.violations("functions/a/b/function.py", source))


def test_a_pool_outside_its_owner_is_found() -> None:
    assert list(connections.violations("functions/a/b/x.py", "async def f(p):\n    await p.create_pool()\n"))


def test_session_state_in_sql_is_found() -> None:
    assert list(connections.violations("shared/x.py", "Q = 'SET search_path = a'\n"))
    assert not list(connections.violations("shared/x.py", "Q = 'SET LOCAL search_path = a'\n"))
