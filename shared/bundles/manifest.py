"""What a tenant's own function declares, as data: known and checked without running a line of it.

Who packs the function derives this from its declaration; the platform signs it with the archive; the process that loads
the archive refuses a declaration that says anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.access import ROLES, covers
from shared.errors import Invalid
from shared.function.declaration import MIB, PERMISSION, Route

CAPABILITY = "own"
PREFIX = f"/v1/{CAPABILITY}/"
"""Every route of a tenant's own function is below it, and none of the platform's."""
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NAME_CHARS_MAX = 30
SEGMENT = re.compile(r"[A-Za-z0-9._~-]+|\{[a-z_][a-z0-9_]*\}")
REST = re.compile(r"\{[a-z_][a-z0-9_]*:path\}")
ROUTES_MAX = 20
TIMEOUT_S_MAX = 60
TENANT_ROLES = ("admin", "member", "viewer")
ASKABLE = frozenset(
    {"Caller", "Clock", "TenantDatabase", "TenantTransaction", "TenantObjects", "Embeddings", "Cache", "LanguageModel"}
)
"""The types that its handlers may ask for. Each is of the one tenant; none opens the tenant's stored provider keys."""

Text = Annotated[str, StringConstraints(max_length=200)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Path(Strict):
    """One route: see `shared.function.declaration.Route`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: Text
    permission: Text
    body_bytes_max: int | None = Field(None, ge=1, le=MIB)

    @property
    def changes(self) -> bool:
        return Route(self.method, self.path, self.permission).changes


class Manifest(Strict):
    """The whole declaration of a tenant's own function. `asks`: the types of its handlers' parameters."""

    name: Annotated[str, StringConstraints(max_length=NAME_CHARS_MAX)]
    """Of its folder and its package: lower-case words joined by underscores."""
    summary: Text
    timeout_s: int = Field(ge=1, le=TIMEOUT_S_MAX)
    instances_max: int = Field(ge=1, le=1000)
    concurrency: int = Field(ge=1, le=1000)
    body_bytes_max: int = Field(ge=1, le=MIB)
    routes: tuple[Path, ...] = Field(min_length=1, max_length=ROUTES_MAX)
    asks: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name in paths and commands."""
        return self.name.replace("_", "-")

    @property
    def function(self) -> str:
        """The name of the deployable, as the platform's functions have it: `own-rates`."""
        return f"{CAPABILITY}-{self.slug}"

    @model_validator(mode="after")
    def keeps_the_rules(self) -> Manifest:
        for flaw in flaws(self):
            raise ValueError(flaw)
        return self


def parsed(text: bytes | str) -> Manifest:
    """Raises `Invalid` with the first rule that the manifest breaks."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as flaw:
        first = flaw.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{where or 'the declaration'}: {first['msg'].removeprefix('Value error, ')}") from flaw


def flaws(manifest: Manifest) -> Iterator[str]:
    if not NAME.fullmatch(manifest.name):
        yield f"{manifest.name!r} is no name: lower-case words joined by single underscores, as its folder is called"
    if beyond := sorted(set(manifest.asks) - ASKABLE):
        yield f"it asks for {', '.join(beyond)}; a tenant's own function may ask for {', '.join(sorted(ASKABLE))}"
    seen: set[tuple[str, str]] = set()
    for route in manifest.routes:
        yield from route_flaws(route, f"{PREFIX}{manifest.slug}")
        shape = (route.method, re.sub(r"\{\w+", "{", route.path))
        if shape in seen:
            yield f"{route.method} {route.path} is declared twice"
        seen.add(shape)


def route_flaws(route: Path, root: str) -> Iterator[str]:
    if route.path != root and not route.path.startswith(root + "/"):
        yield f"{route.path} is not below {root}; every other path is the platform's or another function's"
        return
    segments = route.path.removeprefix(root).split("/")[1:]
    wrong = [
        one
        for place, one in enumerate(segments)
        if not SEGMENT.fullmatch(one) and not (REST.fullmatch(one) and place == len(segments) - 1)
    ]
    if wrong or {".", ".."} & set(segments):
        yield f"{route.path} has a segment that is neither a word nor a parameter"
    if not PERMISSION.fullmatch(route.permission):
        yield f"permission {route.permission!r} is not of the form 'documents:read'"
    elif not any(covers(ROLES[role], route.permission) for role in TENANT_ROLES):
        yield f"no role of a tenant has the permission {route.permission!r}"
