"""Problems on the wire: `application/problem+json` (RFC 9457), or the shape of OpenAI or Anthropic for their SDKs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.types import Message

Dialect = Literal["problem", "openai"]
BY_STATUS: dict[int, type[Problem]] = {
    kind.status: kind
    for kind in (
        Malformed, Unauthenticated, Forbidden, NotFound, MethodNotAllowed, Conflict, TooLarge, UnsupportedMediaType,
        Invalid, TooManyRequests,
    )
}  # fmt: skip
FLAWS_MAX = 20


def messages(problem: Problem, *, dialect: Dialect, request_id: str, path: str = "") -> list[Message]:
    """The ASGI messages that answer with this problem."""
    if dialect == "openai":
        from shared.llm.dialect import model_error

        body, kind = model_error(problem, path=path, request_id=request_id), b"application/json"
    else:
        body, kind = problem.document(instance=path, request_id=request_id), b"application/problem+json"
    payload = json.dumps(body, default=str, ensure_ascii=False).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(payload)).encode())]
    if dialect == "openai":
        headers.append((b"request-id", request_id.encode()))  # Anthropic's SDK reads it, OpenAI's `x-request-id`
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="dcoder"'))
    return [
        {"type": "http.response.start", "status": problem.status, "headers": headers},
        {"type": "http.response.body", "body": payload},
    ]


def from_http_exception(raised: HTTPException) -> Problem:
    """Starlette's and FastAPI's own refusals as ours."""
    kind = BY_STATUS.get(raised.status_code, Malformed if raised.status_code < 500 else Problem)
    return kind(str(raised.detail))


def from_validation_error(raised: RequestValidationError) -> Problem:
    """What pydantic found, as places and sentences. The values sent are not repeated: they may be secrets."""
    flaws = [
        {"at": ".".join(str(part) for part in flaw["loc"]), "message": flaw["msg"], "kind": flaw["type"]}
        for flaw in raised.errors()[:FLAWS_MAX]
    ]
    if any(flaw["kind"] == "json_invalid" for flaw in flaws):
        return Malformed("the body is not valid JSON", flaws=flaws)
    places = "; ".join(f"{flaw['at']}: {flaw['message']}" for flaw in flaws)
    return Invalid(f"the request does not fit: {places}", flaws=flaws)
