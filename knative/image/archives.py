"""An image or a root folder of somebody else's as the first layers: what `docker save` or `skopeo copy` wrote."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from knative.image.interpreter import NAME
from knative.image.layout import CHUNK_BYTES, MEDIA, Document, Layer, blob, copy_to, digest_of_file, pack
from shared.errors import Fault

PROGRAMS = tuple(f"{folder}/{NAME}" for folder in ("usr/local/bin", "usr/bin", "bin"))
INDEX_DEPTH_MAX = 3
DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
LAYER_TYPES = {
    MEDIA + "layer.v1.tar": False,
    MEDIA + "layer.v1.tar+gzip": True,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": True,
}
"""Whether a layer's bytes are gzip, by media type."""


@dataclass(frozen=True)
class Foundation:
    """The lower layers, the path of the interpreter in them, and what to call them in the labels."""

    layers: tuple[Layer, ...]
    program: str
    name: str
    digest: str


def from_folder(folder: Path, scratch: Path) -> Foundation:
    """A root folder as one layer. Raises `Fault` without a Python of our version."""
    program = next((one for one in PROGRAMS if (folder / one).is_file()), None)
    if program is None:
        raise without_python(folder)
    layer = pack("base", folder, scratch / "base.tar")
    return Foundation((layer,), "/" + program, "", layer.digest)


def from_archive(archive: Path, architecture: str, scratch: Path) -> Foundation:
    """The layers of an OCI archive, byte for byte. Raises `Fault`."""
    try:
        with tarfile.open(archive) as opened:
            return read(opened, archive, architecture, scratch)
    except (tarfile.TarError, KeyError, ValueError, TypeError, OSError) as broken:
        raise Fault(f"{archive} is not an OCI image archive: {broken!r}") from broken


def read(opened: tarfile.TarFile, archive: Path, architecture: str, scratch: Path) -> Foundation:
    chosen = manifest_of(opened, architecture)
    manifest = document(opened, chosen["digest"])
    configuration = document(opened, manifest["config"]["digest"])
    if configuration["architecture"] != architecture:
        raise Fault(f"{archive} is for {configuration['architecture']}, this machine is {architecture}")
    layers = tuple(
        extracted(opened, entry, diff_id, scratch / f"base-{number}")
        for number, (entry, diff_id) in enumerate(
            zip(manifest["layers"], configuration["rootfs"]["diff_ids"], strict=True)
        )
    )
    present = {name for layer in layers for name in names_in(layer)}
    program = next((one for one in PROGRAMS if one in present), None)
    if program is None:
        raise without_python(archive)
    name = chosen.get("annotations", {}).get("io.containerd.image.name", "")
    return Foundation(layers, "/" + program, name, chosen["digest"])


def without_python(base: Path) -> Fault:
    return Fault(
        f"{base} has no {NAME} in /usr/local/bin, /usr/bin or /bin: wheels and bytecode are made for the Python "
        f"that runs dcoder; take a base with {NAME}, or run dcoder with the base's Python"
    )


def manifest_of(opened: tarfile.TarFile, architecture: str) -> Document:
    """The descriptor of the manifest for this architecture, through indexes of indexes."""
    listed = member(opened, "index.json")["manifests"]
    for _ in range(INDEX_DEPTH_MAX):
        fitting = [one for one in listed if one.get("platform", {}).get("architecture", architecture) == architecture]
        if not fitting:
            raise ValueError(f"no manifest for {architecture}")
        if not fitting[0]["mediaType"].endswith(("index.v1+json", "manifest.list.v2+json")):
            found: Document = fitting[0]
            return found
        listed = document(opened, fitting[0]["digest"])["manifests"]
    raise ValueError(f"more than {INDEX_DEPTH_MAX} indexes")


def document(opened: tarfile.TarFile, digest: str) -> dict[str, Any]:  # Any: a JSON document of a public format
    return member(opened, blob(digest))


def member(opened: tarfile.TarFile, name: str) -> dict[str, Any]:  # Any: a JSON document of a public format
    loaded = json.loads(content_of(opened, name).read(DOCUMENT_BYTES_MAX))
    if not isinstance(loaded, dict):
        raise ValueError(f"{name} is not a JSON object")
    return loaded


def content_of(opened: tarfile.TarFile, name: str) -> IO[bytes]:
    content = opened.extractfile(name)
    if content is None:
        raise ValueError(f"{name} is not a file")
    return content


def extracted(opened: tarfile.TarFile, entry: Document, diff_id: str, target: Path) -> Layer:
    """One layer as it is, into a file. Raises `ValueError` when its bytes are not what the manifest says."""
    if entry["mediaType"] not in LAYER_TYPES:
        raise ValueError(f"a layer is {entry['mediaType']}; only plain and gzip tar layers are read")
    copy_to(content_of(opened, blob(entry["digest"])), target)
    digest, size = digest_of_file(target)
    if digest != entry["digest"]:
        raise ValueError(f"the layer {entry['digest']} has the bytes of {digest}")
    plain = uncompressed_bytes(target) if LAYER_TYPES[entry["mediaType"]] else size
    return Layer("base", target, digest, diff_id, size, plain, media_type=entry["mediaType"])


def uncompressed_bytes(path: Path) -> int:
    inflating, total = zlib.decompressobj(wbits=31), 0
    with path.open("rb") as content:
        while part := content.read(CHUNK_BYTES):
            while part:
                total += len(inflating.decompress(part, CHUNK_BYTES))
                part = inflating.unconsumed_tail
    return total


def names_in(layer: Layer) -> Iterator[str]:
    with tarfile.open(layer.path) as archive:
        for found in archive:
            yield found.name.removeprefix("./")
