"""Text completions by a model that has only chat: the prompt is a user's message, the answer the text that goes on.

What a chat cannot do is refused: nobody gets something else than what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece, completion_of
from functions.gateway.translate.for_openai import encoded, ended, wants_usage
from functions.gateway.translate.parameters import WITHOUT_EFFECT
from shared.llm.dialect import provider_error
from shared.llm.translation import Untranslatable
from shared.usage import Tokens

CARRIED = frozenset({"model", "max_tokens", "temperature", "top_p", "n", "stop", "stream", "stream_options"}) | {
    "presence_penalty", "frequency_penalty", *WITHOUT_EFFECT,
}  # fmt: skip
"""What a chat has under the same name."""
NEUTRAL: Mapping[str, object] = {"suffix": "", "echo": False, "best_of": 1}
"""What a chat has not, and what is the same as saying nothing of it."""


class CompletionCaller:
    """One call's."""

    def __init__(self, body: Json) -> None:
        for name, value in body.items():
            if name not in CARRIED | {"prompt"} and not is_idle(name, value):
                raise Untranslatable(
                    f"this model's provider completes no texts, it has only chat, which has no {name[:60]!r}",
                    param=name[:60],
                )
        carried = {name: value for name, value in body.items() if name in CARRIED}
        self.body: Json = {**carried, "messages": [{"role": "user", "content": prompt_in(body)}]}
        self._wants_usage = wants_usage(body)
        self._head: Json = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": str(body.get("model", "")),
        }

    def whole(self, answer: Any, used: Tokens | None) -> Json:  # Any: litellm's ModelResponse
        told = completion_of(answer, used)
        choices = []
        for one in told["choices"]:
            text = one["message"].get("content") or one["message"].get("refusal") or ""
            choices.append(choice(one["index"], str(text), one["finish_reason"]))
        model = {"model": told["model"]} if told.get("model") else {}
        return {**self._head, **model, "choices": choices, **({"usage": told["usage"]} if "usage" in told else {})}

    def event(self, piece: Piece) -> bytes:
        """What was thought has no place in a text completion."""
        self._head |= {"model": piece.model} if piece.model else {}
        text = str(piece.delta.get("content") or piece.delta.get("refusal") or "")
        if not text and not piece.finish:
            return b""
        return encoded({**self._head, "choices": [choice(piece.index, text, piece.finish)]})

    def end(self, used: Tokens | None) -> bytes:
        return ended(self._head, used if self._wants_usage else None)

    def error(self, status: int, message: str) -> Json:
        return provider_error(message, status)


def choice(index: int, text: str, finish: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def is_idle(name: str, value: object) -> bool:
    """Whether the answer is the same without it. `0` log probabilities are those of the text itself."""
    return value is None or value == NEUTRAL.get(name)


def prompt_in(body: Json) -> str:
    """The one text. Raises `Untranslatable` for several, and for token ids, which are of another model's tokenizer."""
    prompt = body.get("prompt")
    text = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if not isinstance(text, str) or not text:
        raise Untranslatable(
            "this model's provider has only chat: send one text as 'prompt', no token ids and not several",
            param="prompt",
        )
    return text
