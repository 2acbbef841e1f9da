"""The only file that functions-framework loads. `DCODER_FUNCTION` names the functions that this process serves, or
`DCODER_BUNDLE` holds the one function of a tenant's own.

functions-framework calls `main` and awaits what it returns as an ASGI response, so `main` returns the app itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.function.app import Application, build
from shared.function.catalog import Deployable, select
from shared.function.startup import startup
from shared.settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request


def served(settings: Settings) -> list[Deployable]:
    """What this process serves. Raises `Fault` for a function that is not there and for a bundle that is not ours."""
    if settings.bundle is None:
        return select(settings.functions)
    from shared.bundles.loading import loaded

    return [loaded(settings)]


settings = Settings.from_environment()
deployables = served(settings)
startup.reached("imported")
app = build(deployables, settings)


async def main(request: Request) -> Application:
    """Serve any path, method and event of the named functions."""
    return app
