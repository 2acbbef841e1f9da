"""What the `openai` SDK sees of a gateway, whichever major version it is: one JSON object."""

from __future__ import annotations

import json
import os
from typing import Any

import openai

MODEL = "gpt-4o-mini"
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
client = openai.OpenAI(base_url=os.environ["GATEWAY_URL"] + "/v1", api_key=os.environ["GATEWAY_KEY"], max_retries=0)
asking: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
told: dict[str, Any] = {"version": openai.__version__}


def failing(**more: Any) -> dict[str, Any]:
    """How an error reaches the caller."""
    try:
        client.chat.completions.create(**{**asking, **more})
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "code": error.code,
            "param": error.param,
            "request_id": bool(error.request_id),
            "retry_after": error.response.headers.get("retry-after"),
        }
    return {}


told["models"] = sorted(model.id for model in client.models.list())
told["whole"] = client.chat.completions.create(**asking).choices[0].message.content
raw = client.chat.completions.with_raw_response.create(**asking)
told["headers"] = sorted(name for name in raw.headers if name.startswith("x-"))
stream = client.chat.completions.create(**asking, stream=True)
told["stream"] = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
stream = client.chat.completions.create(**asking, stream=True, stream_options={"include_usage": True})
told["usage"] = [chunk.usage.total_tokens for chunk in stream if chunk.usage]
with client.chat.completions.stream(**asking, tools=[TOOL]) as events:
    calls = events.get_final_completion().choices[0].message.tool_calls or []
    told["calls"] = [[call.id, call.function.name, call.function.arguments] for call in calls]
told["embedding"] = client.embeddings.create(model="text-embedding-3-small", input="x").data[0].embedding
told["completion"] = client.completions.create(model=MODEL, prompt="Once", suffix=".").choices[0].text
told["flagged"] = client.moderations.create(input="I am going to kill you").results[0].flagged
first = client.responses.create(model=MODEL, input="Hi")
told["response"] = [first.output_text, client.responses.retrieve(first.id).output_text]
events_of: Any = client.responses.create(model=MODEL, input="Go on", previous_response_id=first.id, stream=True)
found = list(events_of)
told["response_events"] = [found[0].type, found[-1].type, found[-1].response.output_text]
told["input_items"] = len(client.responses.input_items.list(first.id).data)
client.responses.delete(first.id)
told["unknown_model"] = failing(model="nowhere")
told["malformed"] = failing(messages=[])
told["rate"] = failing()
told["server"] = failing()
try:
    for _ in client.chat.completions.create(**asking, stream=True):
        pass
    told["cut"] = ""
except openai.APIError as error:
    told["cut"] = type(error).__name__
print(json.dumps(told))
