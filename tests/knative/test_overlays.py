"""The example overlay, really built by kustomize: it changes what it says, and keeps the schemas and the policies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from knative import policies, schemas
from knative.manifest import Manifest
from knative.render import RENDERED

OVERLAYS = RENDERED.parent / "overlays"
pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on the PATH; it carries kustomize"
)


def built(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.fixture(scope="module")
def overlaid() -> list[Manifest]:
    return built(OVERLAYS / "example")


def test_what_is_built_keeps_the_schemas_and_the_policies(overlaid: list[Manifest]) -> None:
    assert len(overlaid) == len(built(RENDERED / "production"))
    assert schemas.faults(overlaid) == []
    assert policies.violations(overlaid) == []


def test_the_image_the_gateway_and_the_labels_are_the_overlays(overlaid: list[Manifest]) -> None:
    services = {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in overlaid
        if one["kind"] == "Service" and one["apiVersion"].startswith("serving.knative.dev/")
    }

    images = {name: one["spec"]["containers"][0]["image"] for name, one in services.items()}
    own = "registry.internal.example.com/platform/dcoder"
    assert images.pop("gateway-translate") == f"{own}-translate:0.1.0"
    assert set(images.values()) == {f"{own}:0.1.0"}
    awake = {
        name
        for name, one in services.items()
        if one["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "1"
    }
    assert awake == {"gateway-llm"}
    assert all(one["metadata"]["labels"]["example.com/cost-centre"] == "4711" for one in overlaid)


@pytest.mark.parametrize(
    ("patch", "caught"),
    [
        ({"spec": {"template": {"metadata": {"annotations": {"dcoder.dev/scale-reason": None}}}}}, "has a reason"),
        ({"spec": {"template": {"spec": {"containerConcurency": 3}}}}, "containerConcurency: is unknown"),
    ],
)
def test_an_overlay_that_breaks_a_rule_is_caught(tmp_path: Path, patch: dict[str, object], caught: str) -> None:
    shutil.copytree(RENDERED / "production", tmp_path / "rendered" / "production")
    shutil.copytree(OVERLAYS / "example", tmp_path / "overlays" / "example")
    folder = tmp_path / "overlays" / "example"
    named = {"name": "gateway-llm", "namespace": "dcoder"}
    broken = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": named, **patch}
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    kustomization["patches"].append({"path": "broken.yaml"})
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    found = built(folder)

    assert any(caught in one for one in [*schemas.faults(found), *policies.violations(found)])
