"""What a call may take at most, before anybody has counted its tokens.

A token of a byte-level tokenizer has at least one byte, so a text has no more tokens than bytes. An image costs by its
size, which nobody knows before it is fetched: it counts as the dearest that a model of the table bills.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider
from shared.errors import Malformed
from shared.llm.usage import whole
from shared.usage import Tokens

OUTPUT_MOST = 16_384
"""What is reserved for an answer whose length nobody limits; under a hard limit the provider is told so."""
COMPLETION_MOST = 16
"""Of a text completion that is the length by default (OpenAI's API reference)."""
LEAST_OUTPUT = 256
"""An answer that would be cut shorter is not worth its input."""
IMAGE_TOKENS_MOST = 50_000
CHOICES_MAX = 128
PROMPTS_MAX = 2048
LENGTH_MAX = 2**24
LENGTHS = ("max_completion_tokens", "max_tokens")
INLINE = b"data:"
MARKS = (b"image", b'"file"', b'"input_file"', b'"document"', b"input_audio", INLINE)
ATTACHED = frozenset({"image_url", "input_image", "file", "input_file", "input_audio", "image", "document"})
"""Types of what is attached to a message, in OpenAI's and Anthropic's formats."""
NEW_NAME = ("api.openai.com", "api.groq.com")
"""Hosts that take `max_completion_tokens`, whatever kind they were stored as."""


@dataclass(frozen=True)
class Wish:
    """The most that a call may take, and whether the caller has limited the answer's length."""

    most: Tokens
    stated: bool
    answers: int = 1
    """How many answers are written, each up to the limit of the length."""


def wish_of(wanted: Wanted, *, unlimited: int = OUTPUT_MOST, lengths: Sequence[str] = LENGTHS) -> Wish:
    """`unlimited`: what is reserved for an answer whose length nobody limits; `lengths`: the members that limit it.

    Raises `Malformed` for a length or a number of answers that cannot be one.
    """
    length, choices = output_asked(wanted, lengths), choices_of(wanted)
    each = unlimited if length is None else length
    return Wish(Tokens(input=input_most(wanted), output=each * choices), stated=length is not None, answers=choices)


def output_asked(wanted: Wanted, lengths: Sequence[str] = LENGTHS) -> int | None:
    """The answer's length as the caller limits it. Of two limits the lower one holds."""
    told = [checked(wanted, name, LENGTH_MAX) for name in lengths]
    return min((length for length in told if length is not None), default=None)


def choices_of(wanted: Wanted) -> int:
    """Text completions write `best_of` answers, of which the caller gets the `n` best, for each of their prompts."""
    each = max(checked(wanted, "n", CHOICES_MAX) or 1, checked(wanted, "best_of", CHOICES_MAX) or 1)
    return each * prompts_in(wanted.content.get("prompt"))


def prompts_in(prompt: object) -> int:
    """A prompt is a text or token ids; several are a list of either. Raises `Malformed` for too many."""
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    if len(prompt) > PROMPTS_MAX:
        raise Malformed(f"'prompt' has {len(prompt)} prompts; {PROMPTS_MAX} can be sent at once", param="prompt")
    return len(prompt)


def checked(wanted: Wanted, name: str, most: int) -> int | None:
    value = wanted.content.get(name)
    if value is None:
        return None
    count = whole(value)
    if count is None or not 1 <= count <= most:
        raise Malformed(f"{name!r} is a whole number from 1 to {most}", param=name)
    return count


def input_most(wanted: Wanted) -> int:
    """No provider can count more input tokens than this."""
    if not any(mark in wanted.raw for mark in MARKS):
        return len(wanted.raw)
    texts, images = parts(wanted.content)
    return texts + images * IMAGE_TOKENS_MOST


def parts(value: object) -> tuple[int, int]:
    """The bytes of what is text in a JSON value, and how many images and files are in it."""
    if isinstance(value, dict):
        inside = [parts(member) for member in value.values()]
        names = sum(len(str(name).encode()) + 4 for name in value)
        here = int(value.get("type") in ATTACHED)
        return names + sum(texts for texts, _ in inside), here + sum(images for _, images in inside)
    if isinstance(value, list):
        inside = [parts(member) for member in value]
        return len(value) + sum(texts for texts, _ in inside), sum(images for _, images in inside)
    if isinstance(value, str) and value.startswith(INLINE.decode()):
        return 0, 0
    return len(json.dumps(value).encode()), 0


def output_limit(provider: Provider, feature: str, most: int) -> dict[str, int]:
    """The member that tells this provider how long an answer may be."""
    return {"max_tokens" if feature == "completions" else length_member(provider): most}


def length_member(provider: Provider | None) -> str:
    """What this provider's chat calls the most that an answer may have."""
    if provider is None:
        return "max_tokens"
    new = provider.of.new_length or urlsplit(provider.base_url).hostname in NEW_NAME
    return "max_completion_tokens" if new else "max_tokens"
