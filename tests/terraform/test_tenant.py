"""Module `tenant` on a real stack: made, adopted, protected and deleted, also when it is killed or refused."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.cli.client import Client, key_of
from tests.fixtures.ports import free_port
from tests.fixtures.stack import stack, wait_until
from tests.terraform.conftest import MakeRoot
from tests.terraform.program import TEST_S_MAX, Program

pytestmark = [pytest.mark.terraform, pytest.mark.timeout(TEST_S_MAX)]
ROOT_MODULE = """
module "tenant" {{
  source              = "./terraform/modules/tenant"
  name                = "{name}"
  platform_url        = "{url}"
  operator_key_file   = "operator.key"
  admin_key_file      = "admin.key"
  deletion_protection = {protected}
}}
"""
APPLY = ("apply", "-auto-approve")
DESTROY = ("destroy", "-auto-approve")


@dataclass(frozen=True)
class Platform:
    url: str
    key: str

    def tenants(self) -> dict[str, str]:
        """State by name."""
        listed = Client(self.url, self.key).call("GET", "/v1/tenants").json()["tenants"]
        assert isinstance(listed, list)
        return {one["name"]: one["state"] for one in listed}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with stack() as (cli, started):
        yield Platform(str(started["platform_url"]), key_of(cli.home, "admin_key", None))


Place = Callable[..., Path]


@pytest.fixture
def place(platform: Platform, make_root: MakeRoot) -> Place:
    """A root module for one tenant, with the operator's key beside it."""

    def make(name: str, *, url: str = platform.url, key: str = platform.key, protected: str = "false") -> Path:
        root = make_root(ROOT_MODULE.format(name=name, url=url, protected=protected))
        (root / "operator.key").write_text(f"{key}\n")
        return root

    return make


def unprotect(root: Path) -> None:
    text = (root / "main.tf").read_text()
    (root / "main.tf").write_text(text.replace("= true", "= false"))


def test_a_refused_key_leaves_nothing_and_the_right_one_goes_on(
    program: Program, platform: Platform, place: Place
) -> None:
    root = place("refused", key="dck_wrong_key", protected="true")
    said = program.refused(root, *APPLY)
    assert "POST /v1/tenants answered 401" in said
    assert "dck_wrong_key" not in said
    (root / "operator.key").write_text(platform.key)
    program.ok(root, *APPLY)
    assert platform.tenants()["refused"] == "ready"


@pytest.mark.parametrize("text", ["", "dck_a b", 'dck_a"\nurl = "http://127.0.0.1:9/"'])
def test_a_file_that_holds_no_key_is_not_sent(program: Program, place: Place, text: str) -> None:
    said = program.refused(place("unsent", key=text), *APPLY)
    assert "holds no key" in said


def test_a_platform_that_does_not_answer_is_named(program: Program, place: Place) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = program.refused(place("silent", url=url), *APPLY)
    assert f"no answer from {url}" in said


def test_a_killed_run_is_completed_by_the_next(program: Program, platform: Platform, place: Place) -> None:
    root = place("killed")
    argv = [program.path, *APPLY]
    process = subprocess.Popen(
        argv, cwd=root, env=program.surroundings(root), start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: "killed" in platform.tenants())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
    program.ok(root, *APPLY)
    assert platform.tenants()["killed"] == "ready"
    program.ok(root, *DESTROY)
    assert "killed" not in platform.tenants()


def test_a_tenant_is_made_with_a_key_that_works_and_no_state_holds(
    program: Program, platform: Platform, place: Place
) -> None:
    root = place("acme")
    said = program.ok(root, *APPLY)
    key = (root / "admin.key").read_text().strip()
    assert stat.S_IMODE((root / "admin.key").stat().st_mode) == 0o600
    assert "documents" in Client(platform.url, key).call("GET", "/v1/documents").json()
    for text in (said, (root / "terraform.tfstate").read_text()):
        assert key not in text
        assert platform.key not in text
    assert "No changes" in program.ok(root, "plan")
    program.ok(root, *DESTROY)
    assert "acme" not in platform.tenants()
    assert not (root / "admin.key").exists()


def test_a_tenant_that_exists_is_taken_over(program: Program, platform: Platform, place: Place) -> None:
    Client(platform.url, platform.key).call("POST", "/v1/tenants", {"name": "elder"})
    root = place("elder")
    program.ok(root, *APPLY)
    Client(platform.url, platform.key).call("DELETE", "/v1/tenants/elder")
    program.ok(root, *DESTROY)  # it is gone already
    assert json.loads((root / "terraform.tfstate").read_text())["resources"] == []


def test_a_protected_tenant_is_not_deleted(program: Program, platform: Platform, place: Place) -> None:
    root = place("vault", protected="true")
    program.ok(root, *APPLY)
    said = program.refused(root, *DESTROY)
    assert "tenant vault is protected" in said
    assert platform.tenants()["vault"] == "ready"
    unprotect(root)
    program.ok(root, *APPLY)
    program.ok(root, *DESTROY)
    assert "vault" not in platform.tenants()
