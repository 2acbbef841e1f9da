"""What can be asked of /v1/responses, whoever serves the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from functions.gateway.llm.bodies import Wanted, parsed
from functions.gateway.llm.reservation import LENGTH_MAX, checked
from shared.errors import Malformed, NotFound

ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
NOT_HERE: Mapping[str, str] = {
    "background": "a response is made while its caller waits; leave it out",
    "conversation": "go on from a response by 'previous_response_id'",
    "prompt": "send what it says in 'instructions' and 'input'",
}
"""Members that would have a provider keep or take something that no key's limits and rights hold for."""
OURS = frozenset({"function", "custom"})
"""Tools that the caller runs. Every other one is run by the provider, and costs what it says afterwards."""


async def asked(request: Request) -> Wanted:
    """The body. Raises `Malformed`."""
    wanted = await parsed(request, required="input")
    content = wanted.content
    for name, instead in NOT_HERE.items():
        if content.get(name) not in (None, False):
            raise Malformed(f"{name!r} is not supported: {instead}", param=name)
    given = content["input"]
    if not isinstance(given, str) and not (isinstance(given, list) and all(isinstance(one, dict) for one in given)):
        raise Malformed("'input' is a text or a list of items", param="input")
    previous = content.get("previous_response_id")
    if previous is not None and not (isinstance(previous, str) and ID.fullmatch(previous)):
        raise Malformed("'previous_response_id' is not the id of a response", param="previous_response_id")
    checked(wanted, "max_output_tokens", LENGTH_MAX)
    if content.get("store") not in (None, True, False):
        raise Malformed("'store' is true or false", param="store")
    for name, kind in (("tools", list), ("text", dict), ("reasoning", dict), ("metadata", dict), ("include", list)):
        if not isinstance(content.get(name), kind | None):
            raise Malformed(f"{name!r} is not {'a list' if kind is list else 'an object'}", param=name)
    if not all(isinstance(one, dict) for one in content.get("tools") or []):
        raise Malformed("'tools' is a list of objects", param="tools")
    return wanted


def referenced(wanted: Wanted) -> list[str]:
    """The ids of earlier items that the input stands for. Raises `Malformed`."""
    given = wanted.content["input"]
    items = [one for one in given if is_reference(one)] if isinstance(given, list) else []
    ids = [one.get("id") for one in items]
    if not all(isinstance(one, str) and ID.fullmatch(one) for one in ids):
        raise Malformed("an item_reference needs the 'id' of an item", param="input")
    return [str(one) for one in ids]


def is_reference(item: Mapping[str, object]) -> bool:
    """An item of an id alone is one too: its type may be left out."""
    return item.get("type") == "item_reference" or (item.get("type") is None and "role" not in item)


def items_of(wanted: Wanted) -> list[dict[str, Any]]:  # Any: JSON
    """What was put in, as a list of items."""
    given = wanted.content["input"]
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given


def hosted(wanted: Wanted) -> str:
    """The type of the first tool that the provider runs; empty when there is none."""
    tools = wanted.content.get("tools") or []
    return next((str(one.get("type")) for one in tools if one.get("type") not in OURS), "")


def checked_id(response_id: str) -> str:
    """Raises `NotFound` for what no response's id can be: it becomes a part of a path."""
    if not ID.fullmatch(response_id):
        raise NotFound(f"there is no response {response_id[:100]!r}", param="response_id")
    return response_id
