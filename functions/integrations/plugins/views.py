"""What the API shows of a tenant's own functions, and takes for them."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from shared.bundles.archive import ARCHIVE_BYTES_MAX
from shared.bundles.revisions import Kept, OwnFunction, Revision
from shared.errors import Invalid
from shared.function.schema import Body


class NewRevision(Body):
    """A packed function and what it declares, as `dcoder functions deploy` makes both."""

    archive: str = Field("", max_length=ARCHIVE_BYTES_MAX * 4 // 3 + 4)
    """The zip, in base64."""
    manifest: dict[str, Any] = Field({})  # Any: JSON, which `parsed` checks
    traffic: bool = True
    """Whether all calls go to it once it answers. Otherwise nothing changes until traffic is shared out anew."""

    def archive_bytes(self) -> bytes:
        """Raises `Invalid`."""
        try:
            return base64.b64decode(self.archive, validate=True)
        except (binascii.Error, ValueError) as flaw:
            raise Invalid("archive is not base64") from flaw


class Sharing(Body):
    """How calls are shared out: revision → per cent, together 100."""

    traffic: dict[int, int] = Field({}, max_length=10)


class Address(Body):
    """Where a revision's process answers: an origin, `http://host[:port]`."""

    address: str = Field("", max_length=300)


class FunctionView(BaseModel):
    name: str
    traffic: dict[int, int]
    """As it is wished."""
    serving: dict[int, int]
    """As it is: what is wished, once each of these revisions answers."""
    changed_at: datetime


class FunctionList(BaseModel):
    functions: list[FunctionView]


class RevisionView(BaseModel):
    revision: int
    digest: str
    routes: list[str]
    asks: list[str]
    bytes: int
    answers: bool
    failure: str | None
    """Why its process does not start."""
    created_by: str
    created_at: datetime


class FunctionDetails(FunctionView):
    revisions: list[RevisionView]


class SignedBundle(BaseModel):
    """A revision's bundle, for who runs it. Each part in base64."""

    revision: int
    digest: str
    archive: str
    statement: str
    signature: str


def view(one: OwnFunction) -> FunctionView:
    return FunctionView(name=one.name, traffic=dict(one.traffic), serving=dict(one.serving), changed_at=one.changed_at)


def details(one: OwnFunction, revisions: list[Revision]) -> FunctionDetails:
    return FunctionDetails(**view(one).model_dump(), revisions=[revision_view(each) for each in revisions])


def revision_view(one: Revision) -> RevisionView:
    return RevisionView(
        revision=one.revision,
        digest=one.digest,
        routes=[f"{route.method} {route.path}" for route in one.manifest.routes],
        asks=list(one.manifest.asks),
        bytes=one.archive_bytes,
        answers=one.address is not None,
        failure=one.failure,
        created_by=one.created_by,
        created_at=one.created_at,
    )


def signed(one: Kept) -> SignedBundle:
    archive, statement, signature = (
        base64.b64encode(part).decode() for part in (one.sealed.archive, one.sealed.statement, one.sealed.signature)
    )
    return SignedBundle(
        revision=one.revision, digest=one.sealed.digest, archive=archive, statement=statement, signature=signature
    )
