"""The stores alone, for functions that run on a cluster."""

from __future__ import annotations

from urllib.parse import urlsplit

from shared.host.ports import is_free
from tests.fixtures.stack import stack

ELSEWHERE = "127.0.0.9"


def test_the_stores_listen_where_they_are_told_and_no_function_runs() -> None:
    with stack(environment={"DCODER_LISTEN": ELSEWHERE, "DCODER_STORES_ONLY": "true"}) as (cli, document):
        assert document["stores_only"]
        assert cli.children().keys() == {"postgres", "nats", "redis", "objects"}
        environment = cli.home.read("host.json")["environment"]
        assert isinstance(environment, dict)
        for store in ("POSTGRES", "REDIS", "OBJECTS"):
            address = urlsplit(environment[f"DCODER_{store}_URL"])
            assert address.hostname == ELSEWHERE
            assert not is_free(address.port or 0, ELSEWHERE)
        assert cli.home.read("secrets/keys.json")["admin_key"], "the control database is prepared"
        assert cli.json("doctor")["ok"], "functions that run elsewhere are not missed"


def test_an_address_that_is_none_is_refused() -> None:
    from pathlib import Path

    from tests.fixtures.servers import scratch_directory
    from tests.fixtures.stack import Cli

    with scratch_directory() as folder:
        done = Cli(Path(folder) / "home", {"DCODER_LISTEN": "node.example"}).run("up", "--detach", "--stores")
    assert done.returncode == 1
    assert "DCODER_LISTEN='node.example' is not an IPv4 address" in done.stderr
