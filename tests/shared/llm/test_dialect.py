"""Problems in the shape that OpenAI's SDKs parse."""

from __future__ import annotations

import pytest

from shared.errors import NotFound, Problem, TooLarge, TooManyRequests, Unauthenticated, Unavailable
from shared.llm.dialect import openai_error


@pytest.mark.parametrize(
    ("problem", "kind", "code"),
    [
        (Unauthenticated("no"), "authentication_error", "invalid_api_key"),
        (NotFound("no", openai_code="model_not_found"), "invalid_request_error", "model_not_found"),
        (NotFound("no"), "invalid_request_error", "not_found"),
        (TooLarge("no"), "invalid_request_error", "request_too_large"),
        (TooManyRequests("no"), "rate_limit_error", "rate_limit_exceeded"),
        (Unavailable("no"), "server_error", "unavailable"),
    ],
)
def test_a_problem_has_openais_type_and_code(problem: Problem, kind: str, code: str) -> None:
    assert openai_error(problem) == {"error": {"message": "no", "type": kind, "param": None, "code": code}}
