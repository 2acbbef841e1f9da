"""What the gateway and the function that translates for it say to each other, beside the answer itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

from shared.errors import Busy, DeadlineExceeded, Fault, Malformed, NotFound, Problem, Refusal, Unavailable
from shared.llm import sse
from shared.llm.google import NoAccess
from shared.llm.outbound import ForbiddenAddress, NotConnected
from shared.usage import Tokens

Route = Literal["chat", "messages", "completions", "embeddings", "count_tokens"]
"""What can be asked for: the gateway's routes by the names that the ledger has for them."""
ROUTES: Mapping[str, Route] = {name: name for name in get_args(Route)}
KIND = "x-dcoder-translated"
"""A header of all that the translator says: `answer`, `error` (the provider's) or `problem` (ours)."""
USED = "x-dcoder-used"
"""A header of a whole answer: what the provider says that it used, as JSON; absent when it says nothing."""
COUNTED = "x-dcoder-token-count"
"""A header of an answer that is a count, or has one that is not the provider's: who counted."""
BY_PROVIDER = "provider"
MARK = b'{"dcoder":'
"""How an event of a stream begins that is for the gateway alone."""


class Untranslatable(Refusal):
    """What was asked cannot be said in the dialect of the model's provider: nothing was asked."""

    status, code, title = 400, "untranslatable", "Not translatable"


class TranslationUnavailable(Unavailable):
    """No function that translates answers: it is not deployed, or cannot start. Nothing was asked."""

    code, title = "translation_unavailable", "Translation not available"


class BadTranslation(Problem):
    """The provider answered, with something that cannot be said in the caller's dialect."""

    status, code, title = 502, "answer_untranslatable", "Answer not translatable"


TOLD: Mapping[str, type[Problem]] = {
    kind.code: kind
    for kind in (
        Malformed, NotFound, Unavailable, DeadlineExceeded, Fault, ForbiddenAddress, NotConnected, NoAccess,
        Untranslatable, TranslationUnavailable, BadTranslation,
    )
}  # fmt: skip
"""By their codes, the problems of which the translator tells."""
MEMBERS = ("param",)


def used_text(used: Tokens) -> str:
    return json.dumps(asdict(used))


def used_in(text: str) -> Tokens | None:
    return Tokens(**json.loads(text)) if text else None


def used_event(used: Tokens) -> bytes:
    """For the gateway, before the event that ends a stream."""
    return sse.encode(json.dumps({"dcoder": {"used": asdict(used)}}))


def problem_event(problem: Problem) -> bytes:
    """The end of a stream that broke on its way."""
    return sse.encode(json.dumps({"dcoder": {"problem": document_of(problem)}}))


def document_of(problem: Problem, *, asked: bool = True) -> dict[str, object]:
    """`asked`: whether the provider was asked, so that it may have charged something."""
    return problem.document() | {"retry_after_s": problem.retry_after_s, "asked": asked}


def problem_in(document: Mapping[str, Any]) -> Problem:  # Any: JSON
    """The problem that `document_of` wrote. One that the translator does not tell is `Unavailable`."""
    kind = TOLD.get(str(document.get("code")), Unavailable)
    detail, wait = str(document.get("detail", "")), document.get("retry_after_s")
    members = {name: document[name] for name in MEMBERS if document.get(name)}
    if issubclass(kind, Busy):
        return kind(detail, retry_after_s=int(wait or 1), **members)
    return kind(detail, retry_after_s=None if wait is None else int(wait), **members)
