"""The functions behind the built-in models, and how their answers become ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import Problem, Unavailable, passed_on

if TYPE_CHECKING:
    import httpx

ANSWERS, SEARCH = "knowledge-answers", "knowledge-search"
Json = dict[str, Any]  # Any: JSON of our own functions
NOT_OURS = 401
"""A function does not know us: whoever called us is not to blame."""


def content_of(response: httpx.Response) -> Json:
    """A function's answer. Raises its problem as ours."""
    try:
        content: Json = response.json()
    except ValueError:
        raise Unavailable(f"a function answered {response.status_code} with something else than JSON") from None
    if response.status_code == NOT_OURS:
        raise Unavailable("a function does not take our token")
    if response.status_code >= 400:
        wait = response.headers.get("retry-after", "")
        told = {"retry_after_s": int(wait) if wait.isdigit() else None, "headers": dict(response.headers)}
        raise problem_in(content | told | {"status": response.status_code})
    return content


def problem_in(document: Json) -> Problem:
    """The problem that an RFC 9457 document describes. A refusal stays what it is; what failed there may go again."""
    status, detail = int(document.get("status", 500)), str(document.get("detail", "no detail"))
    if status >= 500:
        return Unavailable(detail)
    return passed_on(
        status,
        str(document.get("code", "refused")),
        detail,
        retry_after_s=document.get("retry_after_s"),
        headers=document.get("headers"),
        openai_code=document.get("openai_code"),
    )
