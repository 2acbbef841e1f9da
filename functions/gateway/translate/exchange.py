"""One call of a provider: what is asked of it, once, and its refusals and our problems, told as what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from functions.gateway.translate import engine, upstream
from functions.gateway.translate.asked import Json
from functions.gateway.translate.upstream import Endpoint
from shared.errors import Problem
from shared.llm import http
from shared.llm.exchange import whole
from shared.llm.outbound import Providers
from shared.llm.translation import KIND, BadTranslation, Untranslatable, document_of
from shared.llm.usage import json_object

STATUS_MAX = 599  # RFC 9110 §15; uvicorn cannot send what is beyond
Refused = Callable[[int, str], Json]
"""An error in the caller's dialect, of a status and words."""


@dataclass
class Exchange:
    """One call's. `sent`: whether the provider has been asked, so that it may have charged something."""

    endpoint: Endpoint
    providers: Providers
    sent: bool = False

    async def ask(self, path: str, body: Json, headers: Mapping[bytes, bytes]) -> http.Answer:
        """The answer with its head read. Raises as `opened` does."""
        raw, told = json.dumps(body).encode(), {**headers, **self.endpoint.credential}
        self.sent = True
        return await upstream.opened(self.providers, self.endpoint, path, raw, told)

    async def content(self, answer: http.Answer, refused: Refused) -> tuple[Json, Response | None]:
        """What a whole answer holds; or a refusal of the provider's, as the caller gets it. Raises `BadTranslation` and
        what `whole` raises."""
        content = await whole(answer, self.endpoint.name)
        if 300 <= answer.status < 400:
            self.sent = False
            raise BadTranslation(f"provider {self.endpoint.name!r} answered with a redirect")
        if answer.status > STATUS_MAX:
            raise BadTranslation(f"provider {self.endpoint.name!r} answered with the status {answer.status}")
        if answer.status < 400:
            return json_object(content), None
        said = refused(answer.status, upstream.said(content, self.endpoint))
        return {}, JSONResponse(said, answer.status, {**passed_on(answer), KIND: "error"})


def passed_on(answer: http.Answer) -> dict[str, str]:
    return {name: answer.headers[name] for name in upstream.PASSED_HEADERS if name in answer.headers}


def told(problem: Problem, *, asked: bool) -> Response:
    """A problem of ours. `asked`: whether the provider was."""
    document = document_of(problem, asked=asked)
    return JSONResponse(document, problem.status, {KIND: "problem"}, media_type="application/problem+json")


@contextmanager
def translating(*, answer: bool = False) -> Iterator[None]:
    """A block in which litellm works. It connects to nothing, and what it cannot do is a problem without its own words:
    they hold what was said. `answer`: whether it is a provider's answer that is translated.

    Raises `Untranslatable` or `BadTranslation`.
    """
    try:
        with engine.wall():
            yield
    except Problem:
        raise
    except Exception as raised:  # noqa: BLE001  whatever its classes come upon
        name = type(raised).__name__
        if answer:
            raise BadTranslation(f"the provider's answer cannot be translated ({name})") from None
        raise Untranslatable(f"the call cannot be put into the format of the model's provider ({name})") from None
