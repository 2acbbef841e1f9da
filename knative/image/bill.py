"""What is in a layer, as a CycloneDX 1.6 bill of materials. No time and no random serial are in it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from knative.image.contents import BILLS, LICENSE, VERSION
from knative.image.wheels import Wheel

Component = dict[str, Any]  # Any: a JSON document of a public format


def of_wheels(wheels: Iterable[Wheel]) -> list[Component]:
    """The wheels with the hashes that they were checked against."""
    return [
        {
            "type": "library",
            "name": one.name,
            "version": one.version,
            "purl": f"pkg:pypi/{one.name}@{one.version}",
            "bom-ref": f"pkg:pypi/{one.name}@{one.version}",
            "hashes": [{"alg": "SHA-256", "content": one.sha256}],
            "properties": [{"name": "dcoder:file", "value": one.file}],
            **({"licenses": [{"license": {"name": one.license}}]} if one.license else {}),
        }
        for one in wheels
    ]


def of_interpreter(tree: Path) -> list[Component]:
    """Python, and each shared library outside of it by its hash."""
    version = platform.python_version()
    python = {
        "type": "platform",
        "name": "cpython",
        "version": version,
        "bom-ref": f"pkg:generic/cpython@{version}",
        "purl": f"pkg:generic/cpython@{version}",
    }
    libraries = sorted(path for path in tree.rglob("*.so*") if "lib-dynload" not in path.parts)
    return [python, *(of_file(path, tree) for path in libraries)]


def of_file(path: Path, tree: Path) -> Component:
    relative = path.relative_to(tree).as_posix()
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "file",
        "name": relative,
        "bom-ref": f"file:{relative}",
        "hashes": [{"alg": "SHA-256", "content": content}],
    }


def of_application() -> list[Component]:
    return [
        {
            "type": "application",
            "name": "dcoder",
            "version": VERSION,
            "bom-ref": "dcoder",
            "licenses": [{"license": {"id": LICENSE}}],
        }
    ]


def write(layer: str, components: list[Component], tree: Path) -> None:
    """The bill of a layer, into the layer."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"dcoder/{layer}", "version": VERSION}},
        "components": components,
    }
    target = tree / BILLS / f"{layer}.cdx.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
