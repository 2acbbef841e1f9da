"""Moderation of texts by rules of ours, in the form of OpenAI's answers: nothing leaves the process or is billed."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.gateway.llm.bodies import Wanted, parsed
from functions.gateway.llm.models import OWN
from functions.gateway.llm.moderation_rules import FLAGGED_FROM, matches, rules, scores
from functions.gateway.llm.observing import observe
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header
from shared.errors import Malformed, NotFound
from shared.function import Call
from shared.identity import Caller
from shared.quotas import Meter

MODEL = "dcoder-moderation"
STANDS_FOR = ("omni-moderation-", "text-moderation-")
"""OpenAI's models of the route, which SDKs ask for by default: they get these rules, and are told so in `model`."""
DEFAULT = "omni-moderation-latest"
FEATURE = "moderations"
TEXTS_MAX = 256
CHARS_MAX = 200_000


async def create_moderation(request: Request, call: Call, meter: Meter) -> Response:
    """Whether texts match the platform's own rules, in the form of OpenAI's moderation; no provider is asked."""
    wanted = await parsed(request, required="input", model=DEFAULT)
    check_model(call.caller, wanted.model)
    texts = texts_of(wanted)
    metered = await meter.begin(
        call.caller, request_id=call.request_id, model=MODEL, provider=OWN, feature=FEATURE, most=NOTHING
    )
    observe(call, FEATURE, provider=None, model=MODEL, content={})
    settlement = Settlement(meter, metered, used=NOTHING)
    with settlement.or_settled():
        results = [await judged(text) for text in texts]
        await metered.durable()
        settlement.outcome = "done"
    body = {"id": f"modr-{metered.call.id.hex}", "model": MODEL, "results": results}
    cost = settlement.settle()
    return JSONResponse(body, headers=settlement.headers | {"x-dcoder-provider": OWN} | cost_header(cost))


def check_model(caller: Caller, model: str) -> None:
    """Raises `NotFound` for a model of another route, and for one that the key may not use."""
    known = model == MODEL or model.startswith(STANDS_FOR)
    if not known or (caller.models is not None and not {model, MODEL} & caller.models):
        raise NotFound(
            f"the model {model[:100]!r} does not exist on this route or this key may not use it; there is {MODEL!r},"
            " and OpenAI's names of moderation models stand for it",
            openai_code="model_not_found",
            param="model",
        )


def texts_of(wanted: Wanted) -> list[str]:
    """A text, a list of texts, or a list of parts that is one text. Raises `Malformed` for anything else."""
    given = wanted.content["input"]
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and texts and all(isinstance(one, dict) for one in texts):
        texts = ["\n".join(text_of(one) for one in texts)]
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise Malformed("'input' is a text, a list of texts, or a list of parts of the type text", param="input")
    if len(texts) > TEXTS_MAX or sum(map(len, texts)) > CHARS_MAX:
        raise Malformed(f"'input' has at most {TEXTS_MAX} texts and {CHARS_MAX} characters in all", param="input")
    return texts


def text_of(part: dict[str, object]) -> str:
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise Malformed("the rules read text only: an image or anything else cannot be judged", param="input")
    return text


async def judged(text: str) -> dict[str, object]:
    """One text's result. Others have their turn after each category."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    lowered = text.lower()
    for category, of_it in rules().items():
        found[category] = [one.weight for one in of_it if matches(text, lowered, one)]
        await asyncio.sleep(0)
    told = scores(found)
    flags = {category: score >= FLAGGED_FROM for category, score in told.items()}
    return {
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": told,
        "category_applied_input_types": {category: ["text"] for category in told},
    }
