"""Calls whose provider speaks another dialect than the caller: asked by way of `gateway-translate`, metered here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.providers import finished
from functions.gateway.llm.relay import Relay
from functions.gateway.llm.reservation import LEAST_OUTPUT, Wish, input_most, wish_of
from functions.gateway.llm.settlement import NOTHING, Settlement, begun
from functions.gateway.llm.stopping import PIECE_OUTPUT, AnthropicEnding, OpenAiEnding, Room
from functions.gateway.llm.wires import Anthropic, OpenAi, Wire
from shared.errors import Unavailable
from shared.function import Call
from shared.function.invoke import TRANSLATE_FUNCTION, Invoke
from shared.llm import http
from shared.llm.exchange import is_stream, whole
from shared.llm.outbound import NotConnected
from shared.llm.presence import Stream
from shared.llm.translation import COUNTED, KIND, MARK, ROUTES, USED, TranslationUnavailable, problem_in, used_in
from shared.llm.usage import json_object
from shared.quotas import Meter
from shared.usage import Tokens

PATH = "/v1/translate"
COUNT = "count_tokens"
ANTHROPICS = frozenset({"messages", COUNT})
"""Features that are asked for in Anthropic's dialect."""
AFTER_ALL = (500, 504)
"""Answers of nobody in particular, before which the provider may have been asked."""
Json = dict[str, Any]  # Any: JSON


@dataclass
class Told:
    """A wire format of ours in which the translator says beside it what was used, and what broke."""

    inner: Wire
    used: Tokens | None = None

    @property
    def complete(self) -> bool:
        return self.inner.complete

    @property
    def failed(self) -> bool:
        return self.inner.failed

    def keep(self, data: bytes) -> bool:
        if not data.startswith(MARK):
            return self.inner.keep(data)
        said = json.loads(data)["dcoder"]
        if "problem" in said:
            raise problem_in(said["problem"])
        self.used = Tokens(**said["used"])
        return False

    def told(self, content: Json) -> Tokens | None:
        return self.used

    def is_error(self, content: Json) -> bool:
        return self.inner.is_error(content)

    def error(self, message: str, status: int) -> Json:
        return self.inner.error(message, status)

    def error_event(self, problem: Any) -> bytes:
        return self.inner.error_event(problem)


async def relay(
    call: Call,
    wanted: Wanted,
    provider: Provider,
    model: str,
    *,
    feature: str,
    meter: Meter,
    invoke: Invoke,
) -> Response:
    """Have the provider asked, once. `model` is what the provider calls it."""
    anthropic, wish = feature in ANTHROPICS, wish_in(wanted, feature)
    settlement = await begun(
        meter,
        call,
        provider,
        model,
        feature,
        most=wish.most,
        least_output=None if wish.stated else LEAST_OUTPUT,
        piece_output=PIECE_OUTPUT if wanted.stream else None,
        used=NOTHING if feature == COUNT else None,
    )
    metered = settlement.metered
    asked = {
        "route": ROUTES.get(feature, "chat"),
        "provider": provider.name,
        "model": model,
        "body": wanted.content,
        "most": None if wish.stated else metered.whole.output // wish.answers,
        "bounded": metered.bounded,
    }
    with settlement.or_settled():
        asking = opened(invoke, json.dumps(asked).encode(), provider, settlement)
        answer = await settlement.waiting(asking)
    inner: Wire = Anthropic(call.request_id) if anthropic else OpenAi()
    wire = Told(inner, NOTHING if feature == COUNT else used_in(answer.headers.get(USED, "")))
    own = {"request-id": str(call.request_id)} if anthropic else {}
    own |= {COUNTED: answer.headers[COUNTED]} if COUNTED in answer.headers else {}
    if not is_stream(answer):
        passed = await finished(answer, settlement, provider, "", wire)
        passed.headers.update(own)
        return passed
    ending = AnthropicEnding() if anthropic else OpenAiEnding()
    room = Room(settlement, ending) if metered.in_pieces else None
    stream = Relay(answer, provider, settlement, wire, room)
    headers = settlement.headers | {"x-dcoder-provider": provider.name} | own
    return Stream(stream.pieces(), media_type="text/event-stream", headers=headers, relayed=stream)


def wish_in(wanted: Wanted, feature: str) -> Wish:
    """The most that it may take. A count takes nothing, embeddings write nothing; a text completion is a chat here, and
    not cut after the few tokens that are that route's default at OpenAI."""
    if feature == COUNT:
        return Wish(NOTHING, stated=True)
    if feature == "embeddings":
        return Wish(Tokens(input=input_most(wanted)), stated=True)
    return wish_of(wanted)


async def opened(invoke: Invoke, body: bytes, provider: Provider, settlement: Settlement) -> http.Answer:
    """The translator's answer, when it is one of the provider's. Raises its problem, or `TranslationUnavailable`."""
    try:
        answer = await invoke.post(TRANSLATE_FUNCTION, PATH, body)
    except http.Full as full:
        raise NotConnected("too many calls of providers are in flight", retry_after_s=2) from full
    except (http.ConnectFailure, OSError) as failure:
        settlement.used = NOTHING
        raise unavailable(provider) from failure
    except http.Failure as failure:  # it may have asked the provider already
        raise Unavailable("the function that translates broke off") from failure
    kind = answer.headers.get(KIND, "")
    if kind in ("answer", "error"):
        return answer
    content = json_object(await whole(answer, provider.name))
    if kind != "problem" and answer.status in AFTER_ALL:
        raise Unavailable(f"the function that translates failed ({answer.status})")
    if kind != "problem":  # an ingress's, or a refusal before the function was reached
        settlement.used = NOTHING
        raise unavailable(provider)
    if not content.get("asked"):
        settlement.used = NOTHING
    raise problem_in(content)


def unavailable(provider: Provider) -> TranslationUnavailable:
    return TranslationUnavailable(
        f"provider {provider.name!r} speaks another dialect than this route, and gateway-translate, which translates,"
        " does not answer; is it deployed?",
        retry_after_s=5,
    )
