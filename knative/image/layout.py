"""Layers, configuration and index as an OCI image layout in one tar file (image-spec 1.1).

The same files give the same bytes: entries in the order of their names, no times, no owner but root, plain modes.
Layers stay uncompressed, so a layer's digest is its diff id and no compressor's version is in it; a registry's client
compresses on the way.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MEDIA = "application/vnd.oci.image."
LAYER_TAR = MEDIA + "layer.v1.tar"
CHUNK_BYTES = 1 << 20
OPEN_TO_ALL = ("tmp",)

Document = Mapping[str, Any]  # Any: a JSON document of a public format


@dataclass(frozen=True)
class Layer:
    """One layer as it lies in a file. `uncompressed_bytes` is its tar's size, `digest` that of the file."""

    name: str
    path: Path
    digest: str
    diff_id: str
    size_bytes: int
    uncompressed_bytes: int
    media_type: str = LAYER_TAR


@dataclass(frozen=True)
class Image:
    """What makes an image: its layers from the bottom up, and its configuration."""

    layers: tuple[Layer, ...]
    architecture: str
    config: Document

    def configuration(self) -> bytes:
        return encode(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [{"created_by": f"dcoder image build: {layer.name}"} for layer in self.layers],
            }
        )

    def manifest(self) -> bytes:
        configuration = self.configuration()
        return encode(
            {
                "schemaVersion": 2,
                "mediaType": MEDIA + "manifest.v1+json",
                "config": descriptor(MEDIA + "config.v1+json", digest_of(configuration), len(configuration)),
                "layers": [layer_descriptor(layer) for layer in self.layers],
            }
        )

    @property
    def digest(self) -> str:
        """What a Deployment pins: the manifest's digest."""
        return digest_of(self.manifest())

    @property
    def uncompressed_bytes(self) -> int:
        return sum(layer.uncompressed_bytes for layer in self.layers)


def encode(document: Document) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


def layer_descriptor(layer: Layer) -> dict[str, Any]:
    plain = descriptor(layer.media_type, layer.digest, layer.size_bytes)
    return {**plain, "annotations": {"dev.dcoder.layer": layer.name}}


def pack(name: str, tree: Path, target: Path) -> Layer:
    """The files below `tree` as a layer, written to `target`."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in walk(tree):
            add(archive, path, path.relative_to(tree).as_posix())
    digest, size = digest_of_file(target)
    return Layer(name, target, digest, digest, size, size)


def walk(tree: Path) -> Iterator[Path]:
    """Everything below, each folder before what is in it, in the order of the names' bytes."""
    for entry in sorted(os.scandir(tree), key=lambda one: os.fsencode(one.name)):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    found = archive.gettarinfo(str(path), name)
    plain = tarfile.TarInfo(name)
    plain.type, plain.linkname = found.type, found.linkname
    if found.islnk():  # two names of one file: each gets its content
        plain.type, plain.linkname = tarfile.REGTYPE, ""
    executable = found.isdir() or found.mode & 0o100
    plain.mode = 0o1777 if name in OPEN_TO_ALL else 0o755 if executable else 0o644
    if plain.type != tarfile.REGTYPE:
        archive.addfile(plain)
        return
    plain.size = path.stat().st_size
    with path.open("rb") as content:
        archive.addfile(plain, content)


def digest_of_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest(), path.stat().st_size


def write(image: Image, name: str, target: Path) -> None:
    """The image as an OCI archive under the name `repository:tag`. The file appears whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as output, tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content, size in members(image, name):
                member = tarfile.TarInfo(path)
                member.size, member.mode = size, 0o644
                with content as stream:
                    archive.addfile(member, stream)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def members(image: Image, name: str) -> Iterator[tuple[str, IO[bytes], int]]:
    """The archive's files: path, content, size."""
    configuration, manifest = image.configuration(), image.manifest()
    for path, content in (
        ("oci-layout", encode({"imageLayoutVersion": "1.0.0"})),
        ("index.json", index(image, name)),
        (blob(digest_of(manifest)), manifest),
        (blob(digest_of(configuration)), configuration),
    ):
        yield path, io.BytesIO(content), len(content)
    for layer in unique(image.layers):
        yield blob(layer.digest), layer.path.open("rb"), layer.size_bytes


def index(image: Image, name: str) -> bytes:
    manifest = image.manifest()
    annotations = {
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        "io.containerd.image.name": name,  # what containerd calls it after an import
    }
    entry = {
        **descriptor(MEDIA + "manifest.v1+json", digest_of(manifest), len(manifest)),
        "annotations": annotations,
        "platform": {"architecture": image.architecture, "os": "linux"},
    }
    return encode({"schemaVersion": 2, "mediaType": MEDIA + "index.v1+json", "manifests": [entry]})


def blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def unique(layers: Iterable[Layer]) -> Sequence[Layer]:
    return list({layer.digest: layer for layer in layers}.values())


def copy_to(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as output:
        shutil.copyfileobj(source, output, CHUNK_BYTES)
