"""One exchange with a provider: its bytes, and what happened on the way as a problem that names it."""

from __future__ import annotations

from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.llm import http
from shared.llm.outbound import NotConnected

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ASKED = {
    b"content-type": b"application/json",
    b"accept": b"text/event-stream, application/json",
    b"accept-encoding": b"identity",  # passed on as it comes; who compresses all the same is unpacked
    b"user-agent": b"dcoder",
}
"""Headers of every request."""


class BadAnswer(Problem):
    """The provider answered with something that is no answer: a redirect, or more than we take."""

    status, code, title = 502, "provider_answer_unusable", "Unusable answer of the provider"


def failed(name: str, failure: http.Failure) -> Problem:
    """What happened on the way to the provider of that name, or back."""
    match failure:
        case http.Full():
            return NotConnected("too many calls of providers are in flight", retry_after_s=2)
        case http.ConnectFailure():
            return NotConnected(f"provider {name!r} is not reachable", retry_after_s=5)
        case http.Silence():
            return DeadlineExceeded(f"provider {name!r} went silent")
        case http.Unreadable():
            return BadAnswer(f"provider {name!r} sent an encoding that cannot be read")
    return Unavailable(f"the connection to provider {name!r} broke")


def is_stream(answer: http.Answer) -> bool:
    """Whether it comes as server-sent events; an error and a whole answer do not."""
    return answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream")


async def whole(answer: http.Answer, name: str) -> bytes:
    """The body, at most 64 MiB. Raises `BadAnswer`, or what `failed` says."""
    pieces, size = [], 0
    try:
        while (piece := await answer.read()) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                raise BadAnswer(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    except http.Failure as failure:
        raise failed(name, failure) from failure
    finally:
        answer.close()
    return b"".join(pieces)
