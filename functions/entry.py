"""The only file that functions-framework loads. `DCODER_FUNCTION` names the functions that this process serves.

functions-framework calls `main` and awaits what it returns as an ASGI response, so `main` returns the app itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.function.app import Application, build
from shared.function.catalog import select
from shared.function.startup import startup
from shared.settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request

settings = Settings.from_environment()
deployables = select(settings.functions)
startup.reached("imported")
app = build(deployables, settings)


async def main(request: Request) -> Application:
    """Serve any path, method and event of the named functions."""
    return app
