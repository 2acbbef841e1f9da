"""An image's files in a folder, for tests and measurements. Only for archives that `layout` wrote: no whiteouts."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from knative.image.layout import blob


def unpacked(archive: Path, folder: Path) -> None:
    """Lay the layers down one upon the other, with the modes that they have."""
    with tarfile.open(archive) as opened:
        entry = json.loads(content(opened, "index.json"))["manifests"][0]
        for layer in json.loads(content(opened, blob(entry["digest"])))["layers"]:
            with tarfile.open(fileobj=opened.extractfile(blob(layer["digest"]))) as tar:
                tar.extractall(folder, filter="fully_trusted")  # noqa: S202  our own bytes, by digest


def layer_sizes(archive: Path) -> list[tuple[str, int]]:
    """Name and bytes of each layer, from the bottom up."""
    with tarfile.open(archive) as opened:
        entry = json.loads(content(opened, "index.json"))["manifests"][0]
        layers = json.loads(content(opened, blob(entry["digest"])))["layers"]
    return [(layer["annotations"]["dev.dcoder.layer"], layer["size"]) for layer in layers]


def content(opened: tarfile.TarFile, name: str) -> bytes:
    found = opened.extractfile(name)
    assert found is not None, f"{name} is a file of the archive"
    return found.read()
