"""Which models operators allow, by host and model."""

from __future__ import annotations

import pytest

from shared.llm.allowed import PATTERN, is_allowed


@pytest.mark.parametrize(
    ("pattern", "host", "model", "allowed"),
    [
        ("api.openai.com/*", "api.openai.com", "gpt-4o", True),
        ("api.openai.com/gpt-4o*", "api.openai.com", "gpt-4o-mini", True),
        ("api.openai.com/gpt-4o", "api.openai.com", "gpt-4o-mini", False),
        ("api.openai.com/*", "api.openai.com.evil.test", "gpt-4o", False),
        ("api.openai.com/*", "apixopenai.com", "gpt-4o", False),
        ("*.azure.com/*", "ours.openai.azure.com", "gpt-4o", True),
        ("*.azure.com/*", "evil.test", "x.azure.com/gpt-4o", False),  # a model's name is no host
        ("*/meta/llama-*", "10.0.0.1", "meta/llama-3", True),
        ("*/*", "anything", "at/all", True),
        ("*/a[b]?", "host", "a[b]?", True),
        ("*/a[b]?", "host", "abc", False),
    ],
)
def test_a_host_and_a_model_are_compared_apart(pattern: str, host: str, model: str, allowed: bool) -> None:
    assert PATTERN.fullmatch(pattern)
    assert is_allowed([pattern], host, model) is allowed


@pytest.mark.parametrize("pattern", ["gpt-4o", "/x", "Host/x", "host/", "host/a b", "ho st/x", "host/x\n"])
def test_what_is_no_pattern(pattern: str) -> None:
    assert not PATTERN.fullmatch(pattern)


def test_an_empty_list_allows_nothing() -> None:
    assert not is_allowed([], "host", "model")
