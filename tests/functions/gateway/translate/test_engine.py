"""litellm behind its wall: what it may not reach, what it may not say, who loads it, and who may ask."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from functions.gateway.translate import engine
from shared.host.translation import ensure_packages, search_path
from tests.fixtures.provider import Script, message_error, message_start, text_block, whole
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, question

ROOT = Path(__file__).resolve().parents[4]
MODEL = "claude-sonnet-4-5"
SEEN = """
import os, sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.partition(".")[0] == "socket" else None)
os.chdir(sys.argv[1])
from functions.gateway.translate import engine
engine.load()
import litellm, logging, threading
print("network", [event for event in seen if event in engine.NETWORK])
print("threads", threading.active_count())
print("callbacks", litellm.callbacks, litellm.success_callback, litellm.failure_callback, litellm.cache)
print("told", [name for name in engine.LOGGERS if not logging.getLogger(name).disabled])
print("dotenv", os.environ.get("FROM_DOTENV"))
try:
    with engine.wall():
        from litellm.litellm_core_utils.prompt_templates.image_handling import convert_url_to_base64
        convert_url_to_base64("http://127.0.0.1:9/x.png")
except Exception as refused:
    print("fetched", sum(event == "socket.connect" for event in seen), type(refused).__name__)
"""


def run(code: str, *arguments: str, **more: str) -> str:
    environment = {**os.environ, "PYTHONPATH": search_path(), **more}
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_it_reaches_nobody_and_leaves_nothing_running(tmp_path: Path) -> None:
    ensure_packages()
    (tmp_path / ".env").write_text("FROM_DOTENV=read\n")
    said = run(SEEN, str(tmp_path)).splitlines()
    assert said[:5] == ["network []", "threads 1", "callbacks [] [] [] None", "told []", "dotenv None"]


def test_behind_the_wall_an_image_is_not_fetched(tmp_path: Path) -> None:
    """The try is seen, and refused before the system is asked."""
    ensure_packages()
    assert run(SEEN, str(tmp_path)).splitlines()[5].startswith("fetched")
    code = (
        "import socket, sys\nfrom functions.gateway.translate import engine\nsys.addaudithook(engine.refuse)\n"
        "with engine.wall():\n"
        "    try:\n        socket.create_connection(('127.0.0.1', 9))\n"
        "    except engine.ReachesOut as refused:\n        print('refused', refused)\n"
    )
    assert run(code).startswith("refused socket.")


def test_the_packages_bring_nothing_that_runs_at_each_start() -> None:
    """Two releases of litellm came with a thief in a `.pth` file."""
    folder = ensure_packages()
    assert [path.name for path in folder.rglob("*.pth")] == []
    assert not list(folder.rglob("sitecustomize.py")) + list(folder.rglob("usercustomize.py"))
    assert (folder / f"litellm-{engine.VERSION}.dist-info").is_dir()


def test_the_functions_module_loads_none_of_it() -> None:
    code = "import sys, functions.gateway.translate.function; print('litellm' in sys.modules)"
    assert run(code) == "False\n"


def test_no_other_process_can_load_it() -> None:
    """Here, in the environment that all other functions have, there is none."""
    code = "import importlib.util; print(importlib.util.find_spec('litellm'))"
    assert run(code, PYTHONPATH=str(ROOT)) == "None\n"


async def test_only_the_gateway_may_ask(crossing: Gateway) -> None:
    url = crossing.application.process.settings.translate_url
    async with crossing.at(url) as client:
        answer = await client.post(
            "/v1/translate", json={"route": "chat", "provider": "claudes", "model": MODEL, "body": {}}
        )
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    async with crossing.at(url) as client:
        client.headers.pop("authorization")
        assert (await client.post("/v1/translate", json={})).status_code == 401
    assert crossing.provider.calls == []


async def test_the_log_holds_neither_keys_nor_what_was_said(crossing: Gateway, translators_log: Path) -> None:
    secret = "the-word-that-was-said"
    for script in (
        message_error(500, "api_error", f"{secret} {PROVIDER_KEY}"),
        whole(f'{{"content": "{secret}"}}'.encode()),
        Script((message_start(), text_block(secret))),
        whole(b"<html>" + secret.encode()),
    ):
        crossing.provider.will(script)
        await crossing.client.post("/v1/chat/completions", json=question(MODEL, secret, stream=True))
    broken = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:{secret}"}}]}]
    await crossing.client.post("/v1/chat/completions", json=question(MODEL, messages=broken))
    log = await asyncio.to_thread(translators_log.read_text)
    assert secret not in log
    assert PROVIDER_KEY not in log


@pytest.mark.parametrize("name", ["absent", "../claudes"])
async def test_a_provider_that_went_meanwhile_is_not_found(crossing: Gateway, name: str) -> None:
    from shared.function.invoke import TRANSLATE_FUNCTION
    from shared.identity import Caller, Tokens

    settings = crossing.application.process.settings
    tokens = await crossing.application.process.get(Tokens)
    caller = Caller(crossing.tenant, "test", "admin", "function")
    async with crossing.at(settings.translate_url) as client:
        client.headers["authorization"] = f"Bearer {tokens.mint(caller, audience=TRANSLATE_FUNCTION)}"
        body = {"route": "chat", "provider": name, "model": MODEL, "body": question(MODEL)}
        answer = await client.post("/v1/translate", json=body)
    assert (answer.status_code, answer.json()["asked"]) == (404, False)
