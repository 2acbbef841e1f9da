"""What the `anthropic` SDK sees of a gateway, whichever major version it is: one JSON object."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import anthropic

warnings.simplefilter("ignore")
MODEL = "claude-sonnet-4-5"
client = anthropic.Anthropic(base_url=os.environ["GATEWAY_URL"], api_key=os.environ["GATEWAY_KEY"], max_retries=0)
asking: Any = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
told: dict[str, Any] = {"version": anthropic.__version__}


def failing(**more: Any) -> dict[str, Any]:
    """How an error reaches the caller."""
    try:
        client.messages.create(**{**asking, **more})
    except anthropic.APIStatusError as error:
        body: Any = error.body
        return {
            "class": type(error).__name__,
            "type": body["error"]["type"],
            "request_id": bool(error.request_id),
            "retry_after": error.response.headers.get("retry-after"),
        }
    return {}


told["models"] = [model.id for model in client.models.list()]
told["whole"] = client.messages.create(**asking).to_dict()["content"]
told["count"] = client.messages.count_tokens(model=MODEL, messages=asking["messages"]).input_tokens
with client.messages.stream(**asking) as stream:
    told["stream"] = list(stream.text_stream)
    told["usage"] = stream.get_final_message().usage.output_tokens
with client.messages.stream(**asking) as stream:
    told["tool"] = stream.get_final_message().to_dict()["content"]
told["unknown_model"] = failing(model="nowhere")
told["rate"] = failing()
try:
    with client.messages.stream(**asking) as stream:
        stream.get_final_message()
    told["cut"] = ""
except anthropic.APIError as error:
    told["cut"] = type(error).__name__
print(json.dumps(told))
