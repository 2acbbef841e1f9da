"""litellm behind a wall: loaded at first use, kept from the network and from the log.

Only its translation of formats is used. It opens no connection: while it works, a try to open one is refused, so an
image's address in a message cannot make this process fetch it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from shared.errors import Fault
from shared.llm.translation import TranslationUnavailable

VERSION = "1.106.2"
"""The one that is locked. Two other releases were stolen and carried a thief of credentials."""
SWITCHES: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else its import fetches a table of prices
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_MODE": "PRODUCTION",  # else its import reads a .env file of the working directory
    "LITELLM_LOG": "CRITICAL",
    "LITELLM_TELEMETRY": "False",
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
MODULES = (
    "litellm.llms.anthropic.chat.handler",
    "litellm.llms.anthropic.chat.transformation",
    "litellm.llms.anthropic.pass_through.adapters.transformation",
    "litellm.llms.gemini.chat.transformation",
    "litellm.litellm_core_utils.token_counter",
    "litellm.llms.openai.responses.count_tokens.transformation",
    "litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
)
"""What is used of it."""
NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"})

walled: ContextVar[bool] = ContextVar("walled", default=False)


class ReachesOut(Exception):
    """What is translated would make this process open a connection."""


async def loaded() -> None:
    """Return once litellm can be used: seconds of processor time, once in a process, and not on the event loop.

    Raises `TranslationUnavailable` where it is not installed.
    """
    if "litellm" not in sys.modules or not load.cache_info().currsize:
        await asyncio.to_thread(load)


@cache
def load() -> None:
    """Raises `TranslationUnavailable` or `Fault`. What failed is tried again."""
    try:
        found = version("litellm")
    except PackageNotFoundError:
        raise TranslationUnavailable("gateway-translate runs without litellm, which its image carries") from None
    if found != VERSION:
        raise Fault(f"litellm {found} is installed, {VERSION} is locked")
    os.environ.update(SWITCHES)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = True, False
    sys.addaudithook(refuse)
    with wall():
        for module in MODULES:
            importlib.import_module(module)
    silence()


def silence() -> None:
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = litellm.modify_params = False
    litellm.cache = None
    for name in ("callbacks", "success_callback", "failure_callback", "input_callback", "_async_success_callback"):
        setattr(litellm, name, [])
    for name in LOGGERS:  # its import makes them anew
        logging.getLogger(name).disabled = True


@contextmanager
def wall() -> Iterator[None]:
    """A block in which nothing connects."""
    before = walled.set(True)
    try:
        yield
    finally:
        walled.reset(before)


def refuse(event: str, _: object) -> None:
    if event in NETWORK and walled.get():
        raise ReachesOut(event)
