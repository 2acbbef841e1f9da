"""What LiteLLM says that calls cost. Run by `tests.load.prices` in an environment that has litellm and nothing of ours.

Reads one JSON list of cases from standard input, writes one JSON list of USD, null where LiteLLM refuses.
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module
from typing import Any

Case = dict[str, Any]  # Any: JSON of the benchmark's


def usage_of(used: Case) -> Any:  # Any: LiteLLM is not in the environment that checks types
    types = import_module("litellm.types.utils")
    sent, written = used["input"], used["output"]
    kept = None
    if used["written_5m"] or used["written_1h"]:
        kept = types.CacheCreationTokenDetails(
            ephemeral_5m_input_tokens=used["written_5m"], ephemeral_1h_input_tokens=used["written_1h"]
        )
    of_input = types.PromptTokensDetailsWrapper(
        cached_tokens=used["cached"],
        audio_tokens=used["audio_input"],
        image_tokens=used["image_input"],
        cache_creation_tokens=used["written_5m"] + used["written_1h"],
        cache_creation_token_details=kept,
    )
    of_output = types.CompletionTokensDetailsWrapper(
        reasoning_tokens=used["reasoning"], audio_tokens=used["audio_output"], image_tokens=used["image_output"]
    )
    return types.Usage(
        prompt_tokens=sent,
        completion_tokens=written,
        total_tokens=sent + written,
        prompt_tokens_details=of_input,
        completion_tokens_details=of_output,
    )


def cost_of(case: Case) -> float:
    litellm, calculator = import_module("litellm"), import_module("litellm.cost_calculator")
    usage, model, provider = usage_of(case["used"]), case["model"], case["provider"]
    tier = case["used"]["tier"]
    if tier == "batch":
        return float(sum(calculator.batch_cost_calculator(usage=usage, model=model, custom_llm_provider=provider)))
    cost = litellm.completion_cost(
        completion_response=litellm.ModelResponse(model=model, usage=usage),
        model=model,
        custom_llm_provider=provider,
        service_tier=None if tier == "standard" else tier,
    )
    return float(cost)


def cost_or_none(case: Case) -> float | None:
    try:
        return cost_of(case)
    except Exception as refusal:  # noqa: BLE001  whatever it is, there is no cost to compare
        print(f"{case['model']}: {refusal!r}"[:200], file=sys.stderr)
        return None


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # where LiteLLM prints advice
        said = [cost_or_none(case) for case in json.load(sys.stdin)]
    json.dump(said, sys.stdout)
