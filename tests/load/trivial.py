"""The trivial function that the runtime is measured with, in ours, FastAPI's and Starlette's form."""

from __future__ import annotations

import os

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.function import Function, Scale
from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.identity import Caller
from shared.postgres import TenantTransaction
from shared.settings import Settings


class Question(BaseModel):
    text: str
    limit: int = 10


class Answer(BaseModel):
    text: str
    words: int


trivial = Function(scale=Scale(concurrency=200))


@trivial.post("/typed", permission="documents:read")
async def typed(question: Question, caller: Caller) -> Answer:
    """Count words."""
    return Answer(text=question.text, words=len(question.text.split()))


@trivial.post("/change", permission="documents:write")
async def change(question: Question, transaction: TenantTransaction) -> Answer:
    """Count words, in a transaction that leaves an audit record."""
    return Answer(text=question.text, words=len(question.text.split()))


@trivial.route("/raw", permission="documents:read")
async def raw(request: Request, caller: Caller) -> Response:
    """Count bytes."""
    return JSONResponse({"bytes": len(await request.body())})


def ours() -> Application:
    return build([Deployable("bench-trivial", __name__, trivial)], Settings.from_environment(os.environ))


def bare_fastapi() -> FastAPI:
    app = FastAPI()

    @app.post("/typed")
    async def typed(question: Question) -> Answer:
        return Answer(text=question.text, words=len(question.text.split()))

    return app


def bare_starlette() -> Starlette:
    async def raw(request: Request) -> Response:
        return JSONResponse({"bytes": len(await request.body())})

    return Starlette(routes=[Route("/raw", raw, methods=["POST"])])
