"""The functions behind the built-in models, and how their answers become ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import Forbidden, NotFound, Problem, Refusal, Unavailable

if TYPE_CHECKING:
    import httpx

ANSWERS, SEARCH = "knowledge-answers", "knowledge-search"
Json = dict[str, Any]  # Any: JSON of our own functions
BY_STATUS: dict[int, type[Refusal]] = {403: Forbidden, 404: NotFound}


def content_of(response: httpx.Response) -> Json:
    """A function's answer. Raises its problem as ours."""
    try:
        content: Json = response.json()
    except ValueError:
        raise Unavailable(f"a function answered {response.status_code} with something else than JSON") from None
    if response.status_code >= 400:
        raise problem_in(content | {"status": response.status_code})
    return content


def problem_in(document: Json) -> Problem:
    """The problem that an RFC 9457 document describes."""
    status, detail = int(document.get("status", 500)), str(document.get("detail", "no detail"))
    if status >= 500 or status == 429:
        return Unavailable(detail)
    return BY_STATUS.get(status, Refusal)(detail)
