"""What `langchain-openai` sees of a gateway: one JSON object."""

from __future__ import annotations

import json
import os
from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found,unused-ignore]  # own env

base: Any = {"base_url": os.environ["GATEWAY_URL"] + "/v1", "api_key": os.environ["GATEWAY_KEY"], "max_retries": 0}
chat = ChatOpenAI(model="gpt-4o-mini", **base)
tool = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
schema = {"title": "Place", "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
told: dict[str, Any] = {}
answer = chat.invoke("Hi")
told["whole"] = [answer.content, answer.usage_metadata["total_tokens"]]
told["stream"] = "".join(str(piece.content) for piece in chat.stream("Hi"))
told["calls"] = [[call["name"], call["args"]] for call in chat.bind_tools([tool]).invoke("Hi").tool_calls]
told["structured"] = chat.with_structured_output(schema, method="json_schema").invoke("Hi")
responses = ChatOpenAI(model="gpt-4o-mini", use_responses_api=True, **base)
told["responses"] = responses.invoke("Hi").text
told["responses_stream"] = "".join(piece.text for piece in responses.stream("Hi"))
embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False, **base)
told["embeddings"] = embeddings.embed_documents(["a", "b"])
print(json.dumps(told))
