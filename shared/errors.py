"""Every error that reaches a caller, as one tree. Each class fixes status, code and whether a retry helps.

Problem                        what RFC 9457 calls a problem
├── Refusal                    the request is at fault; the same request fails again
│   ├── Malformed              400
│   ├── Unauthenticated        401
│   ├── Forbidden              403
│   ├── NotFound               404  also every id of another tenant
│   ├── MethodNotAllowed       405
│   ├── Conflict               409
│   ├── TooLarge               413
│   ├── UnsupportedMediaType   415
│   └── Invalid                422
├── Busy                       the platform is at fault for the moment; `Retry-After` is set
│   ├── TooManyRequests        429
│   ├── Unavailable            503
│   └── DeadlineExceeded       504
└── Fault                      500  a defect of ours; the detail stays in the log

An event handler raises `Busy` for "try again" and `Refusal` for "never will".
"""

from __future__ import annotations

from collections.abc import Mapping

PASSED_HEADERS = ("retry-after-ms", "x-should-retry")
"""Of a refusal, what else SDKs act on."""


class Problem(Exception):
    """An error with a status, a stable code and a sentence for the person who has to act on it."""

    status: int = 500
    code: str = "internal_error"
    title: str = "Internal error"
    retryable: bool = False

    def __init__(self, detail: str = "", *, retry_after_s: int | None = None, **members: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = retry_after_s
        self.members = members
        self.headers: dict[str, str] = {}
        """Further headers of the answer."""

    def document(self, *, instance: str = "", request_id: str = "") -> dict[str, object]:
        """The RFC 9457 document. `members` are its extension members."""
        document: dict[str, object] = {
            "type": f"urn:dcoder:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
        }
        if instance:
            document["instance"] = instance
        if request_id:
            document["request_id"] = request_id
        return document | self.members


class Refusal(Problem):
    """The request is at fault; sent again, it fails again."""

    status, code, title = 400, "refused", "Request refused"


class Malformed(Refusal):
    status, code, title = 400, "malformed", "Malformed request"


class Unauthenticated(Refusal):
    status, code, title = 401, "unauthenticated", "Not authenticated"


class Forbidden(Refusal):
    status, code, title = 403, "forbidden", "Not permitted"


class NotFound(Refusal):
    """Unknown here: never existed, was deleted, or belongs to another tenant. The three look alike."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(Refusal):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class Conflict(Refusal):
    status, code, title = 409, "conflict", "Conflict"


class TooLarge(Refusal):
    status, code, title = 413, "too_large", "Body too large"


class UnsupportedMediaType(Refusal):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Invalid(Refusal):
    status, code, title = 422, "invalid", "Invalid request"


class Busy(Problem):
    """Nothing is wrong with the request; later it may succeed."""

    status, code, title, retryable = 503, "busy", "Busy", True

    def __init__(self, detail: str = "", *, retry_after_s: int = 1, **members: object) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, **members)


class TooManyRequests(Busy):
    status, code, title = 429, "too_many_requests", "Too many requests"


class Unavailable(Busy):
    status, code, title = 503, "unavailable", "Temporarily unavailable"


class DeadlineExceeded(Busy):
    status, code, title = 504, "deadline_exceeded", "Time limit exceeded"


class Fault(Problem):
    """A defect of ours. The caller gets the request id, the log gets the rest."""


def passed_on(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_s: int | None = None,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Problem:
    """Another function's refusal (a status below 500) as ours, with the status and the code that it had there.

    `headers`: those of its answer. It is `Busy` when later there may be room.
    """
    told = {name: value for name, value in (headers or {}).items() if name in PASSED_HEADERS}
    later = status == TooManyRequests.status and (retry_after_s is not None or told.get("x-should-retry") != "false")
    problem: Problem = (
        TooManyRequests(detail, retry_after_s=retry_after_s or 1, **members)
        if later
        else Refusal(detail, retry_after_s=None, **members)
    )
    problem.status, problem.code, problem.headers = status, code, told
    return problem
