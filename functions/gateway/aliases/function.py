"""Aliases: names of a tenant's own for models of its providers, switched from one to another by one call.

Nothing switches by itself: a provider that fails is told to the caller, and somebody decides.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, Field, field_validator

from shared.errors import Invalid, NotFound
from shared.function import Call, Function, Scale
from shared.function.schema import Body
from shared.llm.kinds import DOC_CHAT, EMBEDDING, GROUP
from shared.llm.transforms import EACH, PATH
from shared.postgres import TenantDatabase, TenantTransaction

aliases = Function(scale=Scale(max=5))
T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
ASKED = frozenset({"model", "messages", "prompt", "input", "system", "stream", "stream_options"})
"""Members that are the question itself: they have no default."""
DEFAULTS_BYTES_MAX = 4096
ALIASES_MAX, GROUPS_MAX = 500, 500
PATHS_MAX = 20
COLUMNS = "name, provider, model, defaults, request, answer, updated_at"


class Changes(Body):
    """What becomes of a body: members taken away and members set, by paths such as `choices.*.message.refusal`."""

    set: dict[str, Any] = Field(default={}, max_length=PATHS_MAX)  # Any: JSON
    without: list[str] = Field(default=[], max_length=PATHS_MAX)

    @field_validator("set", "without")
    @classmethod
    def are_paths(cls, value: dict[str, Any] | list[str]) -> dict[str, Any] | list[str]:  # Any: JSON
        if wrong := [path for path in value if not PATH.fullmatch(path) or path.endswith(EACH)]:
            raise ValueError(f"has {wrong[0][:60]!r}, which is no path of a member")
        return checked_json(value)


class RequestChanges(Changes):
    """Of a request, whose question itself stays."""

    @field_validator("set", "without")
    @classmethod
    def leave_the_question(cls, value: dict[str, Any] | list[str]) -> dict[str, Any] | list[str]:  # Any: JSON
        if taken := sorted(ASKED & {path.casefold() for path in value}):
            raise ValueError(f"must not have {', '.join(taken)}: that is what is asked")
        return value


class Alias(Body):
    """Which model of which provider it is, what a request's body has where the caller says nothing of it, and what
    becomes of the request's and the answer's bodies."""

    provider: str = Field(max_length=63)
    model: str = Field(max_length=200)
    defaults: dict[str, Any] = Field(default={}, max_length=20)  # Any: JSON
    request: RequestChanges = RequestChanges()
    answer: Changes = Changes()

    @field_validator("defaults")
    @classmethod
    def can_be_merged(cls, value: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        if taken := sorted(ASKED & {name.casefold() for name in value}):
            raise ValueError(f"must not have {', '.join(taken)}: what is asked has no default")
        return checked_json(value)


def checked_json(value: T) -> T:
    """Raises `ValueError` for what the database cannot keep, or would be much of."""
    text = json.dumps(value)
    if len(text) > DEFAULTS_BYTES_MAX or "\\u0000" in text:
        raise ValueError(f"must be at most {DEFAULTS_BYTES_MAX} bytes of JSON without a null character")
    return value


class Group(Body):
    """Models, by the names that callers use: aliases, models, `<provider>/<model>`."""

    models: list[str] = Field(min_length=1, max_length=200)


class GroupView(Group):
    name: str
    updated_at: datetime


class GroupList(BaseModel):
    groups: list[GroupView]


class AliasView(Alias):
    name: str
    updated_at: datetime


class AliasList(BaseModel):
    aliases: list[AliasView]


@aliases.get("/v1/aliases", permission="aliases:read")
async def list_aliases(tenant: TenantDatabase) -> AliasList:
    """The tenant's aliases."""
    rows = await tenant.fetch(f"SELECT {COLUMNS} FROM model_aliases ORDER BY name LIMIT $1", ALIASES_MAX)
    return AliasList(aliases=[AliasView(**row) for row in rows])


@aliases.put("/v1/aliases/{name}", permission="aliases:write")
async def put_alias(name: str, body: Alias, transaction: TenantTransaction, call: Call) -> AliasView:
    """Make an alias, or switch it to another model. In force everywhere within a second; calls in flight go on."""
    if not NAME.fullmatch(name) or name in (DOC_CHAT, EMBEDDING):
        raise Invalid(f"{name[:100]!r} cannot be an alias: 1 to 100 of A-Z, a-z, 0-9 and ._:- and no built-in model's")
    before = await transaction.fetchrow("SELECT provider, model FROM model_aliases WHERE name = $1", name)
    if not await transaction.fetchval(
        "SELECT true FROM provider_credentials WHERE name = $1 AND models @> to_jsonb($2::text)",
        body.provider,
        body.model,
    ):
        raise Invalid(f"the provider {body.provider!r} is not there or does not list the model {body.model!r}")
    row = await transaction.fetchrow(
        "INSERT INTO model_aliases (name, provider, model, defaults, request, answer)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name)"
        " DO UPDATE SET provider = excluded.provider, model = excluded.model, defaults = excluded.defaults,"
        " request = excluded.request, answer = excluded.answer, updated_at = now()"
        f" RETURNING {COLUMNS}",
        name,
        body.provider,
        body.model,
        body.defaults,
        body.request.model_dump(exclude_defaults=True),
        body.answer.model_dump(exclude_defaults=True),
    )
    assert row is not None
    was = f"{before['provider']}/{before['model']}" if before else None
    call.note(resource=f"alias/{name}", before=was, now=f"{body.provider}/{body.model}")
    return AliasView(**row)


@aliases.delete("/v1/aliases/{name}", permission="aliases:write")
async def delete_alias(name: str, transaction: TenantTransaction, call: Call) -> None:
    """Forget an alias."""
    if not await transaction.fetchval("DELETE FROM model_aliases WHERE name = $1 RETURNING true", name):
        raise NotFound(f"there is no alias {name[:100]!r}")
    call.note(resource=f"alias/{name}")


@aliases.get("/v1/model-groups", permission="aliases:read")
async def list_groups(tenant: TenantDatabase) -> GroupList:
    """The tenant's groups of models."""
    rows = await tenant.fetch("SELECT name, models, updated_at FROM model_groups ORDER BY name LIMIT $1", GROUPS_MAX)
    return GroupList(groups=[GroupView(**row) for row in rows])


@aliases.put("/v1/model-groups/{name}", permission="aliases:write")
async def put_group(name: str, body: Group, transaction: TenantTransaction, call: Call) -> GroupView:
    """Make a group, or change its models: keys whose scope has `group/<name>` may use these within a second."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:100]!r} cannot be a group: 1 to 100 of A-Z, a-z, 0-9 and ._:-")
    if wrong := [one for one in body.models if not 1 <= len(one) <= 300 or "\0" in one or one.startswith(GROUP)]:
        raise Invalid(f"{wrong[0][:100]!r} is not a model's name")
    row = await transaction.fetchrow(
        "INSERT INTO model_groups (name, models) VALUES ($1, $2) ON CONFLICT (name)"
        " DO UPDATE SET models = excluded.models, updated_at = now() RETURNING name, models, updated_at",
        name,
        sorted(set(body.models)),
    )
    assert row is not None
    call.note(resource=f"model-group/{name}", models=len(row["models"]))
    return GroupView(**row)


@aliases.delete("/v1/model-groups/{name}", permission="aliases:write")
async def delete_group(name: str, transaction: TenantTransaction, call: Call) -> None:
    """Forget a group. Keys whose scope has it keep what else they have."""
    if not await transaction.fetchval("DELETE FROM model_groups WHERE name = $1 RETURNING true", name):
        raise NotFound(f"there is no group {name[:100]!r}")
    call.note(resource=f"model-group/{name}")
