"""The error shapes of OpenAI and Anthropic, which their SDKs parse and act on."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import Problem

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "rate_limit_exceeded"}
"""Where OpenAI has a code of its own. Elsewhere ours is more telling than null."""


def error_type(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def openai_error(problem: Problem) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`. `openai_code` and `param` come from the problem's members."""
    return {
        "error": {
            "message": problem.detail,
            "type": error_type(problem.status),
            "param": problem.members.get("param"),
            "code": problem.members.get("openai_code") or CODES.get(problem.status, problem.code),
        }
    }


def provider_error(message: str, status: int) -> dict[str, Any]:  # Any: JSON
    """A provider's own error in OpenAI's shape."""
    return {"error": {"message": message, "type": error_type(status), "param": None, "code": "provider_error"}}


def refusal_in(content: bytes) -> dict[str, Any]:  # Any: JSON of the provider's
    """What a provider refuses with; empty for what is no JSON object. Google's streams refuse with a list of one."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    first = told[0] if isinstance(told, list) and told else told
    return first if isinstance(first, dict) else {}


def message_in(refusal: dict[str, Any]) -> object:  # Any: JSON of the provider's
    """What an error says, in either dialect's shape and in Google's."""
    error = refusal.get("error")
    return error.get("message") if isinstance(error, dict) else error


ANTHROPIC_PATH = "/v1/messages"
ANTHROPIC_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


def anthropic_type(status: int) -> str:
    return ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def anthropic_error(problem: Problem, *, request_id: str) -> dict[str, object]:
    """`{"type": "error", "error": {type, message, details}, request_id}`. Our code is in `details.error_code`."""
    code = problem.members.get("openai_code") or problem.code
    error = {"type": anthropic_type(problem.status), "message": problem.detail, "details": {"error_code": code}}
    return {"type": "error", "error": error, "request_id": request_id}


def model_error(problem: Problem, *, path: str, request_id: str) -> dict[str, object]:
    """The error in the dialect of the route that was called."""
    if path == ANTHROPIC_PATH or path.startswith(f"{ANTHROPIC_PATH}/"):
        return anthropic_error(problem, request_id=request_id)
    return openai_error(problem)
