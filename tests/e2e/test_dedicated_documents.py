"""Documents, and a tenant's own function over its objects, in processes of their own on a whole local stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.object_keys import Iam, accepted, buckets_shown
from shared.objects import ObjectKey
from tests.fixtures.stack import Cli, stack, wait_until

pytestmark = pytest.mark.timeout(300)
DOCUMENTS = "knowledge-documents"
OWN = f"demo--{DOCUMENTS}"
LOST = "The harbour office keeps a lost umbrella for 41 days."
FOUND = "The archive of the Halvorsen survey is kept in cabinet forty-two."
SHELF = '''"""Tells what is in its tenant's bucket."""

from __future__ import annotations

from pydantic import BaseModel

from shared.function import Function
from shared.objects import TenantObjects

shelf = Function()


class Told(BaseModel):
    """Keys, and what one of them holds."""

    keys: list[str]
    read: str


@shelf.get("/v1/own/shelf/told", permission="documents:read")
async def told(objects: TenantObjects) -> Told:
    """Put a note, read it again, and tell what is there."""
    await objects.put("shelf/note", b"kept", "text/plain")
    read = (await objects.get("shelf/note", 10)).decode()
    return Told(keys=[one.key async for one in objects.list()], read=read)
'''
Up = dict[str, Any]  # Any: a JSON document


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Cli, Up]]:
    with stack() as started:
        yield started


def variables(cli: Cli, name: str) -> dict[str, str]:
    """The environment of a process that the host runs."""
    text = Path(f"/proc/{cli.children()[name].pid}/environ").read_text()
    return dict(one.split("=", 1) for one in text.split("\0") if "=" in one)


def held_key(cli: Cli, name: str) -> ObjectKey:
    told = variables(cli, name)
    return ObjectKey(told["DCODER_OBJECTS_ACCESS_KEY"], told["DCODER_OBJECTS_SECRET_KEY"])


def platform_key(cli: Cli) -> ObjectKey:
    kept = cli.home.read("secrets/stores.json")
    return ObjectKey(str(kept["objects_access_key"]), str(kept["objects_secret_key"]))


def state(started: Up, name: str) -> str:
    headers = {"authorization": f"Bearer {started['tenant_key']}"}
    answer = httpx.get(f"{started['platform_url']}/v1/documents/{name}", headers=headers, timeout=30)
    return str(answer.json().get("state"))


def test_what_is_uploaded_to_the_tenants_own_process_is_answered_from(up: tuple[Cli, Up], tmp_path: Path) -> None:
    cli, started = up
    cli.json("tenant", "dedicate", "demo", DOCUMENTS)
    headers = {"authorization": f"Bearer {started['tenant_key']}", "content-type": "text/markdown"}
    url = f"{started['platform_url']}/v1/documents/lost.md"

    stored = httpx.put(url, content=f"# Lost\n\n{LOST}\n", headers=headers, timeout=30)
    assert stored.status_code == 202, stored.text
    wait_until(lambda: state(started, "lost.md") == "searchable")
    (tmp_path / "survey.md").write_text(f"# Survey\n\n{FOUND}\n")
    ingested = cli.json("ingest", str(tmp_path / "survey.md"))

    assert [one["state"] for one in ingested["documents"]] == ["searchable"]
    assert "41 days" in cli.json("ask", "For how many days is a lost umbrella kept?")["answer"]
    assert "forty-two" in cli.json("ask", "In which cabinet is the Halvorsen archive?")["answer"]
    assert "event_handled" in (cli.home.logs / f"{OWN}.log").read_text(), "the events were its own"


def test_its_process_holds_the_key_of_its_bucket_and_not_the_platforms(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "add", "other")
    cli.json("tenant", "dedicate", "demo", DOCUMENTS)
    key, store = held_key(cli, OWN), started["objects_url"]

    for secret in (platform_key(cli).access_key, platform_key(cli).secret_key):
        assert secret not in str(variables(cli, OWN))
    assert accepted(store, key, "dcoder-demo")
    assert not accepted(store, key, "dcoder-other")
    assert buckets_shown(store, key) == ["dcoder-demo"]
    assert "DCODER_OBJECTS_KEYS" not in {name for name, value in variables(cli, OWN).items() if value}
    logs = "".join(path.read_text(errors="replace") for path in cli.home.logs.glob("*.log"))
    assert key.secret_key not in logs


def test_dedicated_again_it_has_the_same_key_and_undone_all_serve_it_again(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "dedicate", "demo", DOCUMENTS)
    before = held_key(cli, OWN)

    cli.json("tenant", "undedicate", "demo", DOCUMENTS)

    assert OWN not in cli.children()
    headers = {"authorization": f"Bearer {started['tenant_key']}", "content-type": "text/markdown"}
    url = f"{started['platform_url']}/v1/documents/after.md"
    assert httpx.put(url, content="# After\n\nAll again.\n", headers=headers, timeout=30).status_code == 202
    wait_until(lambda: state(started, "after.md") == "searchable")
    cli.json("tenant", "dedicate", "demo", DOCUMENTS)
    assert held_key(cli, OWN) == before
    assert state(started, "after.md") == "searchable"


def test_a_tenants_own_function_has_its_tenants_objects(up: tuple[Cli, Up], tmp_path: Path) -> None:
    cli, started = up
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "function.py").write_text(SHELF)
    cli.json("functions", "deploy", str(folder), "--tenant", "other")
    key = cli.home.read("secrets/keys.json")["tenants"]
    assert isinstance(key, dict)
    url, headers = f"{started['platform_url']}/v1/own/shelf/told", {"authorization": f"Bearer {key['other']}"}
    wait_until(lambda: httpx.get(url, headers=headers, timeout=30).status_code == 200)

    told = httpx.get(url, headers=headers, timeout=30).json()

    assert told == {"keys": ["shelf/note"], "read": "kept"}
    cli.json("functions", "rm", "shelf", "--tenant", "other", "--yes")


def test_a_deleted_tenants_key_opens_nothing_any_more(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "add", "going")
    cli.json("tenant", "dedicate", "going", DOCUMENTS)
    key, store = held_key(cli, f"going--{DOCUMENTS}"), started["objects_url"]
    assert accepted(store, key, "dcoder-going")

    cli.json("tenant", "rm", "going", "--yes")

    cli.json("tenant", "add", "going")
    assert not accepted(store, key, "dcoder-going")


def test_a_key_of_ones_own_is_brought_when_it_opens_that_bucket_alone(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "add", "bringing")
    made = Iam(started["objects_url"], platform_key(cli)).make("dcoder-bringing")
    key = {"DCODER_TENANT_ACCESS_KEY": made.access_key, "DCODER_TENANT_SECRET_KEY": made.secret_key}

    refused = Cli(cli.path, key).run("tenant", "objects-key", "demo")
    Cli(cli.path, key).json("tenant", "objects-key", "bringing")

    assert refused.returncode == 1
    assert "does not let this key into bucket 'dcoder-demo'" in refused.stderr
    assert made.secret_key not in refused.stderr
    cli.json("tenant", "dedicate", "bringing", DOCUMENTS)
    assert held_key(cli, f"bringing--{DOCUMENTS}") == made
    assert cli.run("tenant", "objects-key", "bringing").returncode == 2
