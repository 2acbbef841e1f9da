"""The ASGI app of one, several or all functions: typed handlers as FastAPI path operations, raw ones beside them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, cast, get_args

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

from shared.errors import MethodNotAllowed, Problem
from shared.events.dead_letters import PATH as DEAD_LETTERS
from shared.function import problems
from shared.function.admission import Admission, slots_of
from shared.function.call import current_call
from shared.function.catalog import Deployable
from shared.function.declaration import Operation, Route
from shared.function.deliveries import Deliveries
from shared.function.injection import Injected, hints_of, provided
from shared.function.process import Process
from shared.function.resources import process_of
from shared.function.tenants import own_database
from shared.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

VERSION = "0.1.0"


class Application:
    """Routes a call to the app that serves it.

    Raw paths without parameters are one look-up away from their handler. The router knows them too: it refuses the
    methods that they do not have.
    """

    def __init__(self, deployables: Sequence[Deployable], process: Process) -> None:
        self.process = process
        self.deployables = list(deployables)
        self._slots = {one.name: slots_of(one.function.scale.concurrency) for one in deployables}
        self.typed = typed_app(deployables)
        self._exact: dict[tuple[str, str], ASGIApp] = {}
        for deployable in deployables:
            for operation, route in deployable.routes():
                self._mount(deployable, operation, route)
        deliveries = Deliveries(deployables, process, self._slots)
        self._exact[("POST", "/")] = deliveries
        self._dead_letters = any(deployable.keeps_dead_letters for deployable in deployables)
        for deployable in deployables:
            if deployable.takes_events:
                self._exact[("POST", f"/events/{deployable.name}")] = deliveries
        self._exact[("GET", "/health/live")] = self._exact[("GET", "/health/ready")] = self._healthy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        scope = dict(scope, path_params={})  # functions-framework's catch-all route leaves its own behind
        found = self._exact.get((scope["method"], scope["path"]))
        if found is None and self._dead_letters and scope["path"].startswith(DEAD_LETTERS):
            found = self._exact[(scope["method"], "/")] if scope["method"] == "POST" else None
        await (found or self.typed)(scope, receive, send)

    def _mount(self, deployable: Deployable, operation: Operation, route: Route) -> None:
        def admit(inner: ASGIApp) -> Admission:
            return Admission(inner, deployable, operation, process=self.process, slots=self._slots[deployable.name])

        if not route.raw:
            self._mount_typed(deployable, operation, route, admit)
            return
        app = admit(raw_endpoint(operation))
        self.typed.router.routes.append(StarletteRoute(route.path, app, methods=[route.method]))
        if "{" not in route.path:
            self._exact[(route.method, route.path)] = app

    def _mount_typed(
        self, deployable: Deployable, operation: Operation, route: Route, admit: Callable[[ASGIApp], Admission]
    ) -> None:
        self.typed.add_api_route(
            route.path,
            typed_endpoint(operation),
            methods=[route.method],
            status_code=route.success,
            response_model=answer_model(operation),
            name=operation.name,
            operation_id=f"{deployable.name}.{operation.name}",
            tags=[deployable.name],
            openapi_extra={"security": [{"key": []}], "x-dcoder-permission": route.permission},
        )
        mounted = cast("StarletteRoute", self.typed.router.routes[-1])
        mounted.app = admit(mounted.app)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.process.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _healthy(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response = JSONResponse({"status": "ok", "functions": [one.name for one in self.deployables]})
        if scope["path"] == "/health/ready" and self.process.settings.has_database:
            try:
                await (await own_database(self.process)).fetchval("SELECT 1")
            except (Problem, OSError) as failure:
                answer = JSONResponse({"status": "unavailable", "reason": type(failure).__name__}, 503)
        await answer(scope, receive, send)


def typed_app(deployables: Sequence[Deployable]) -> FastAPI:
    """An empty FastAPI app whose own errors look like those of the functions, where these agree."""
    app = FastAPI(title="D.Coder", version=VERSION, docs_url=None, redoc_url=None)
    dialects = {one.function.dialect for one in deployables}
    app.state.dialect = dialects.pop() if len(dialects) == 1 else "problem"
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(RequestValidationError, render_validation_error)
    return app


async def render_http_exception(request: Request, raised: Exception) -> Response:
    problem = problems.from_http_exception(cast("HTTPException", raised))
    answer = rendered(problem, request)
    if problem.status == MethodNotAllowed.status:
        answer.headers["allow"] = ", ".join(sorted(methods_of(request)))
    return answer


def methods_of(request: Request) -> set[str]:
    """What the path can be asked with: each method has a route of its own here, so Starlette knows of one only."""
    routes = [one for one in request.app.router.routes if isinstance(one, StarletteRoute)]
    return {method for one in routes if one.matches(request.scope)[0] is not Match.NONE for method in one.methods or ()}


async def render_validation_error(request: Request, raised: Exception) -> Response:
    return rendered(problems.from_validation_error(cast("RequestValidationError", raised)), request)


def rendered(problem: Problem, request: Request) -> Response:
    call = current_call.get(None)
    start, body = problems.messages(
        problem,
        dialect=request.app.state.dialect,
        request_id=call.request_id if call else "",
        path=request.url.path,
    )
    response = Response(body["body"], status_code=start["status"])
    response.raw_headers = start["headers"]
    return response


def typed_endpoint(operation: Operation) -> Callable[..., Any]:
    """The handler as FastAPI sees it: only the parameters that the request brings."""
    injected = Injected(operation.handler)
    handler = operation.handler

    async def endpoint(**values: Any) -> Any:
        return await handler(**values, **await provided(injected.provided, current_call.get()))

    signature = inspect.signature(handler)
    kept = [
        parameter.replace(annotation=injected.given[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name in injected.given
    ]
    endpoint.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]  # FastAPI reads it
    endpoint.__name__ = operation.name
    endpoint.__doc__ = handler.__doc__
    return endpoint


def answer_model(operation: Operation) -> Any:
    """The pydantic model that the handler says it returns; None for no body and for a response of its own. Of a model
    or a response, which is what a handler returns that also answers in another format, it is the model."""
    returned = hints_of(operation.handler).get("return")
    if isinstance(returned, UnionType) and any(map(is_response, get_args(returned))):
        (returned,) = [one for one in get_args(returned) if not is_response(one)]
    return None if is_response(returned) or returned is type(None) else returned


def is_response(returned: object) -> bool:
    return isinstance(returned, type) and issubclass(returned, Response)


def raw_endpoint(operation: Operation) -> ASGIApp:
    """The handler as an ASGI app: its arguments by type, its response sent as it is."""
    injected = Injected(operation.handler)
    handler = operation.handler

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await handler(**await injected.raw_values(current_call.get(), request))
        await response(scope, receive, send)

    return endpoint


def build(deployables: Sequence[Deployable], settings: Settings) -> Application:
    """The app of these functions in a process of their own."""
    return Application(deployables, process_of(settings, deployables))
