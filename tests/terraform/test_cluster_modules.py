"""Modules `knative`, `platform` and `cluster` where the files are wrong or no cluster answers: nothing is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.servers import write_key_files
from tests.terraform.conftest import MakeRoot
from tests.terraform.program import TERRAFORM, TEST_S_MAX, Program

pytestmark = [
    pytest.mark.terraform,
    pytest.mark.timeout(TEST_S_MAX),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the PATH"),
]
APPLY = ("apply", "-auto-approve")
VERSIONS = {"SERVING": "1.23.0", "KOURIER": "1.23.1", "EVENTING": "1.23.2"}
RELEASES = {
    "knative/serving/releases/download/knative-v1.23.0": ("serving-crds.yaml", "serving-core.yaml"),
    "knative-extensions/net-kourier/releases/download/knative-v1.23.1": ("kourier.yaml",),
    "knative/eventing/releases/download/knative-v1.23.2": (
        "eventing-crds.yaml", "eventing-core.yaml", "in-memory-channel.yaml", "mt-channel-broker.yaml",
    ),
}  # fmt: skip
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"
KNATIVE = """
module "knative" {{
  source     = "./terraform/modules/knative"
  kubeconfig = "kubeconfig"
  mirror_url = "file://{mirror}"
  versions   = {{ serving = "1.23.0", kourier = "1.23.1", eventing = "1.23.2" }}
  sha256     = {{ for line in split("\\n", trimspace(file("sums"))) : split("  ", line)[1] => split("  ", line)[0] }}
}}
"""
PLATFORM = """
variable "stores" {
  type      = map(string)
  ephemeral = true
}
module "platform" {
  source      = "./terraform/modules/platform"
  kubeconfig  = "kubeconfig"
  environment = "local"
  keys_folder = "keys"
  stores      = var.stores
}
"""
STORES = (
    '{postgres_url="postgresql://me:hunter2@db",redis_url="redis://:hunter2@cache",'
    'objects_access_key="key",objects_secret_key="hunter2"}'
)


def silent_cluster(root: Path) -> None:
    """A kubeconfig of an address at which nothing listens."""
    cluster = f"{{name: c, cluster: {{server: 'https://127.0.0.1:{free_port()}'}}}}"
    context = "{name: c, context: {cluster: c, user: u}}"
    (root / "kubeconfig").write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{cluster}]\n"
        f"contexts: [{context}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for folder, names in RELEASES.items():
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "mirror" / folder / name).write_text(NAMESPACE.format(name=name[:-5]))
    return tmp_path / "mirror"


@pytest.fixture
def knative(make_root: MakeRoot, mirror: Path) -> Path:
    """A root module whose checksums are those that `knative.sh sums` prints."""
    script = TERRAFORM / "modules" / "knative" / "knative.sh"
    environment = {**os.environ, **VERSIONS, "MIRROR_URL": f"file://{mirror}"}
    sums = subprocess.run([script, "sums"], env=environment, capture_output=True, text=True, check=True).stdout
    root = make_root(KNATIVE.format(mirror=mirror))
    (root / "sums").write_text(sums)
    silent_cluster(root)
    return root


def test_a_file_that_was_changed_stops_everything(program: Program, knative: Path, mirror: Path) -> None:
    changed = next(mirror.rglob("eventing-core.yaml"))
    changed.write_text("# something else\n")
    said = program.refused(knative, *APPLY)
    assert "nothing was changed: not the files that were pinned: eventing-core.yaml: FAILED" in said
    assert "refused" not in said, "kubectl was called"


def test_a_file_that_is_missing_is_named(program: Program, knative: Path, mirror: Path) -> None:
    next(mirror.rglob("kourier.yaml")).unlink()
    said = program.refused(knative, *APPLY)
    assert "net-kourier/releases/download/knative-v1.23.1/kourier.yaml: check versions" in said


def test_the_pinned_files_go_to_the_cluster(program: Program, knative: Path) -> None:
    said = program.refused(knative, *APPLY)
    assert "connection refused" in said or "was refused" in said


def test_a_silent_cluster_is_said_and_no_secret_with_it(program: Program, make_root: MakeRoot) -> None:
    root = make_root(PLATFORM)
    write_key_files(root / "keys")
    silent_cluster(root)
    said = program.refused(root, *APPLY, environment={"TF_VAR_stores": STORES})
    assert "the cluster does not answer" in said
    assert "nothing was changed" in said
    assert "hunter2" not in said + (root / "terraform.tfstate").read_text()


def test_module_cluster_fails_when_nothing_answers(program: Program, make_root: MakeRoot) -> None:
    root = make_root('module "cluster" {\n  source = "./terraform/modules/cluster"\n  kubeconfig = "kubeconfig"\n}\n')
    silent_cluster(root)
    said = program.refused(root, *APPLY)
    assert "refused" in said
