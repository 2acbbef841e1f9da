"""What becomes of bodies under an alias: defaults and changes on the way to the provider, changes on the way back."""

from __future__ import annotations

import json

from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.models import Target
from shared.llm.presence import Stream

OK = 200


def asked(wanted: Wanted, target: Target) -> Wanted:
    """The body with those members that the caller said nothing of, and changed as the alias says."""
    alias = target.alias
    if alias is None:
        return wanted
    missing = {name: value for name, value in alias.defaults.items() if name not in wanted.content}
    if not missing and not alias.request:
        return wanted
    changed = alias.request.of(json.loads(json.dumps({**wanted.content, **missing})))
    return Wanted(wanted.model, changed, json.dumps(changed).encode())


def answered(response: Response, target: Target) -> Response:
    """The answer, changed as the alias says. An error stays what it is."""
    alias = target.alias
    if alias is None or not alias.answer or response.status_code != OK:
        return response
    if isinstance(response, Stream):
        response.pieces = alias.answer.of_stream(response.pieces)
        return response
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(alias.answer.of_bytes(bytes(response.body)), OK, headers)
