"""Aliases: names of a tenant's own for models of its providers, switched from one to another by one call.

Nothing switches by itself: a provider that fails is told to the caller, and somebody decides.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, field_validator

from shared.errors import Invalid, NotFound
from shared.function import Call, Function, Scale
from shared.llm.kinds import DOC_CHAT, EMBEDDING
from shared.postgres import TenantDatabase, TenantTransaction

aliases = Function(scale=Scale(max=5))

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
ASKED = frozenset({"model", "messages", "prompt", "input", "system", "stream", "stream_options"})
"""Members that are the question itself: they have no default."""
DEFAULTS_BYTES_MAX = 4096
ALIASES_MAX = 500
COLUMNS = "name, provider, model, defaults, updated_at"


class Alias(BaseModel):
    """Which model of which provider it is, and what a request's body has where the caller says nothing of it."""

    provider: str = Field(max_length=63)
    model: str = Field(max_length=200)
    defaults: dict[str, Any] = Field(default={}, max_length=20)  # Any: JSON

    @field_validator("defaults")
    @classmethod
    def can_be_merged(cls, value: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        if taken := sorted(ASKED & {name.casefold() for name in value}):
            raise ValueError(f"must not have {', '.join(taken)}: what is asked has no default")
        text = json.dumps(value)
        if len(text) > DEFAULTS_BYTES_MAX or "\\u0000" in text:
            raise ValueError(f"must be at most {DEFAULTS_BYTES_MAX} bytes of JSON without a null character")
        return value


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
        "INSERT INTO model_aliases (name, provider, model, defaults) VALUES ($1, $2, $3, $4) ON CONFLICT (name)"
        " DO UPDATE SET provider = excluded.provider, model = excluded.model, defaults = excluded.defaults,"
        f" updated_at = now() RETURNING {COLUMNS}",
        name,
        body.provider,
        body.model,
        body.defaults,
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
