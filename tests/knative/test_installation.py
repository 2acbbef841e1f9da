"""Bringing a cluster up on this machine: nothing is applied that was not pinned, and what is missing is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from knative import installation, jetstream, machines
from knative.environment import FOLDER, Environment, load, parse
from knative.installation import Release
from knative.kubectl import Kubectl
from knative.render import render
from shared.cli.__main__ import main
from shared.errors import Fault
from shared.function.catalog import find

CLUSTER = Kubectl("kubectl", "nowhere")
FOLDERS = {
    "serving": "knative/serving/releases/download/knative-v1.23.0",
    "kourier": "knative-extensions/net-kourier/releases/download/knative-v1.23.0",
    "eventing": "knative/eventing/releases/download/knative-v1.23.0",
}
FILES = {
    "serving-crds.yaml": "serving", "serving-core.yaml": "serving", "kourier.yaml": "kourier",
    "eventing-crds.yaml": "eventing", "eventing-core.yaml": "eventing", "in-memory-channel.yaml": "eventing",
    "mt-channel-broker.yaml": "eventing",
}  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Release files of our own over HTTP, where the real ones are on their host."""
    for name, origin in FILES.items():
        folder = tmp_path / FOLDERS[origin]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()
    thread.join()
    server.server_close()


def own_release() -> Release:
    sums = {name: hashlib.sha256(f"# {name}\n".encode()).hexdigest() for name in FILES}
    return Release(installation.knative().variables, sums)


def test_the_files_that_were_pinned_are_taken_and_one_that_was_changed_stops_everything(
    mirror: tuple[str, Path],
) -> None:
    url, folder = mirror
    installation.run("check", CLUSTER, own_release(), url)
    (folder / FOLDERS["eventing"] / "eventing-core.yaml").write_text("# something else\n")

    with pytest.raises(
        Fault, match=r"nothing was changed: not the files that were pinned: eventing-core\.yaml: FAILED"
    ):
        installation.run("apply", CLUSTER, own_release(), url)


def test_files_of_the_real_names_with_other_bytes_are_refused(mirror: tuple[str, Path]) -> None:
    with pytest.raises(Fault, match="not the files that were pinned") as refused:
        installation.run("check", CLUSTER, installation.knative(), mirror[0])

    assert all(f"{name}: FAILED" in refused.value.detail for name in FILES)


def test_every_file_has_a_checksum_and_its_release_is_written_out() -> None:
    release = installation.knative()

    assert release.sha256.keys() == FILES.keys()
    assert release.variables == {"SERVING": "1.23.0", "KOURIER": "1.23.0", "EVENTING": "1.23.0"}
    assert "@sha256:" in machines.KIND_NODE


def test_a_release_without_a_checksum_is_refused_with_how_to_pin_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(installation.PINNED.read_text())
    document["jetstream"]["sha256"] = {"broker-jsm.yaml": ""}
    own = tmp_path / "pinned.json"
    own.write_text(json.dumps(document))
    monkeypatch.setattr(installation, "PINNED", own)

    with pytest.raises(installation.Unpinned, match=r"no checksum of broker-jsm\.yaml .*JETSTREAM=1\.22\.0 .*sums"):
        installation.jetstream()


@pytest.mark.parametrize("target", ["kind", "k3s"])
def test_a_program_that_is_missing_is_named_with_how_to_install_it(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["deploy", "up", target, "--dry-run"]) == 3

    said = capsys.readouterr().err
    assert all(f"{name}: " in said for name in machines.MACHINES[target].programs)
    assert "nothing was changed" in said


def test_a_cluster_is_recognised_by_its_whole_name() -> None:
    assert machines.is_there(machines.KIND, "other\ndcoder\n")
    assert not machines.is_there(machines.KIND, "dcoder-2\nNo kind clusters found.\n")
    assert machines.is_there(machines.K3S, "k3s.service loaded active running Lightweight Kubernetes\n")


def with_broker(**fields: object) -> Environment:
    document = yaml.safe_load((FOLDER / "production.yaml").read_text())
    return parse(yaml.safe_dump({**document, "broker": {**document["broker"], **fields}}), "x.yaml")


@pytest.mark.parametrize("fields", [{"jetstream": None}, {"kind": "MTChannelBasedBroker"}])
def test_a_broker_on_jetstream_says_where_its_events_are_kept(fields: dict[str, object]) -> None:
    with pytest.raises(Fault, match=r"x\.yaml: broker: .*needs jetstream, and no other has it"):
        with_broker(**fields)


def test_the_stream_of_a_broker_on_jetstream_is_bounded_and_hands_on_one_event_at_a_time() -> None:
    rendered = render(find(), load("production"))
    broker = next(one for one in rendered if one["kind"] == "Broker")
    notes = broker["metadata"]["annotations"]
    config = json.loads(notes[jetstream.CONFIG])

    assert notes["eventing.knative.dev/broker.class"] == "NatsJetStreamBroker"
    assert (config["stream"]["maxAge"], config["stream"]["maxBytes"]) == ("168h", 8192 * 1024 * 1024)
    assert {"name": "CONSUMER_FETCH_BATCH_SIZE", "value": "1"} in config["filter"]["env"]


def test_nats_is_reached_by_the_brokers_parts_alone() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in render(find(), load("production"))
        if one["kind"] == "NetworkPolicy"
    }
    leading = {name for name, spec in policies.items() if "4222" in str(spec.get("egress"))}
    (ingress,) = policies["nats"]["ingress"]

    assert leading == {jetstream.FILTER}
    assert ingress["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-eventing"}}},
        {"podSelector": {"matchLabels": jetstream.FILTER_LABELS}},
    ]


def test_where_nats_is_goes_to_both_parts_of_the_broker() -> None:
    config, ingress = jetstream.told("nats://token@nats:4222")

    assert json.loads(config["data"]["eventing-nats"])["url"] == "nats://token@nats:4222"
    (container,) = ingress["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "NATS_URL", "value": "nats://token@nats:4222"}]
