"""How a function asks a model: through the gateway, for its caller, so that keys and ledger stay in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import Refusal, Unavailable
from shared.function.invoke import LLM_FUNCTION, Invoke

TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Completion:
    """What the model wrote, and the tokens it took."""

    text: str
    input_tokens: int
    output_tokens: int


class LanguageModel:
    """The tenant's models, through the gateway."""

    def __init__(self, invoke: Invoke) -> None:
        self._invoke = invoke

    async def complete(self, messages: Sequence[Mapping[str, str]], model: str) -> Completion:
        """One completion. Raises `Refusal` with the provider's words, or `Unavailable`."""
        answer = await self._invoke.request(
            LLM_FUNCTION,
            "POST",
            "/v1/chat/completions",
            json={"model": model, "messages": [dict(message) for message in messages], "temperature": 0},
            timeout_s=TIMEOUT_S,
        )
        content = answer.json()
        if answer.status_code >= 400:
            message = str(content.get("error", {}).get("message", "")) if isinstance(content, dict) else ""
            kind = Refusal if answer.status_code < 500 and answer.status_code != 429 else Unavailable
            raise kind(f"model {model!r} did not answer: {message[:500] or answer.status_code}")
        usage = content.get("usage") or {}
        text = content["choices"][0]["message"].get("content") or ""
        return Completion(text, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
