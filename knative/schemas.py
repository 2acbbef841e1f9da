"""Manifests against the schemas of Kubernetes and of Knative's CRDs, unknown keys refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from knative.manifest import Manifest

FOLDER = Path(__file__).resolve().parent / "schemas"
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
Schema = dict[str, Any]  # Any: a JSON schema


@cache
def schema_of(api_version: str, kind: str) -> Schema | None:
    path = FOLDER / f"{api_version}/{kind}.json".replace("/", "_").lower()
    loaded: Schema | None = json.loads(path.read_text()) if path.is_file() else None
    return loaded


def faults(manifests: Iterable[Manifest]) -> list[str]:
    """What is wrong, each with the object and the field."""
    return [f"{one['kind']} {one['metadata']['name']}: {fault}" for one in manifests for fault in faults_of(one)]


def faults_of(manifest: Manifest) -> Iterator[str]:
    schema = schema_of(manifest["apiVersion"], manifest["kind"])
    if schema is None:
        yield f"no schema for {manifest['apiVersion']}"
        return
    yield from differences(dict(manifest), schema, "")


def differences(value: object, schema: Schema, path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{path}: {value!r} is neither a number nor text"
        return
    if (kind := schema.get("type")) and not is_of(value, kind):
        yield f"{path}: {value!r} is not of type {kind}"
        return
    if isinstance(value, dict):
        yield from object_differences(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from differences(item, schema.get("items", {}), f"{path}[{index}]")
    else:
        yield from scalar_differences(value, schema, path)


def is_of(value: object, kind: str) -> bool:
    return isinstance(value, PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def object_differences(value: dict[str, object], schema: Schema, path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties", schema.get("x-kubernetes-preserve-unknown-fields", False))
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: is missing"
    for name, item in value.items():
        if name in known:
            yield from differences(item, known[name], f"{path}.{name}")
        elif isinstance(rest, dict):
            yield from differences(item, rest, f"{path}.{name}")
        elif not rest:
            yield f"{path}.{name}: is unknown"


def scalar_differences(value: object, schema: Schema, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    if isinstance(value, int | float):
        if value < schema.get("minimum", value):
            yield f"{path}: {value} is below {schema['minimum']}"
        if value > schema.get("maximum", value):
            yield f"{path}: {value} is above {schema['maximum']}"
