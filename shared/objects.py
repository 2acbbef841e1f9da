"""Objects of tenants in an S3-compatible store: one bucket each, spoken to with boto3 in threads.

Keys are checked before they leave the process, so that none can mean another path at any store. Every call has
a timeout and at most three attempts; a store that does not answer is `Unavailable`, an object that is not there
`NotFound`.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from shared.errors import Fault, Invalid, NotFound, TooLarge, Unavailable
from shared.ids import TenantId
from shared.settings import Settings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

T = TypeVar("T")
OPENING = threading.Lock()
"""boto3 makes one client at a time: its session, which they come from, takes no two threads."""
BUCKET_PREFIX = "dcoder-"
KEY_BYTES_MAX = 900  # S3 allows 1024; the rest is room for a store's own path
NAME_PART = r"^[^\x00]*$"
"""A pattern of what may be compared with names: PostgreSQL's text holds no NUL."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
THREADS_MAX = 8
CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 20
REGION = "us-east-1"
ATTEMPTS_MAX = 3
READ_BYTES = 256 * 1024
PAGE_KEYS = 1000
LIST_KEYS_MAX = 1_000_000
PROPERTIES = {
    "cache_control": "CacheControl",
    "content_disposition": "ContentDisposition",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
}
MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
TOO_LONG = "KeyTooLongError"  # stores that keep objects as files take 255 bytes between slashes
REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"})


@dataclass(frozen=True)
class ObjectKey:
    """What opens a store: the name of a key, and its secret."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class ObjectHead:
    """What a store tells of an object. `etag` has no quotes."""

    key: str
    etag: str
    size: int
    content_type: str


def key_flaw(key: str) -> str:
    """Why a key cannot be used, or an empty text."""
    if not key or key.startswith("/"):
        return "a key is not empty and starts with no slash"
    if CONTROL.search(key):
        return "a key has no control characters"
    if len(key.encode()) > KEY_BYTES_MAX:
        return f"a key has at most {KEY_BYTES_MAX} bytes of UTF-8"
    if any(segment in ("", ".", "..") for segment in key.rstrip("/").split("/")):
        return "a key has no empty segment and none that is '.' or '..'"
    return ""


def checked_key(key: str) -> str:
    """The key itself. Raises `Invalid` with its flaw."""
    if flaw := key_flaw(key):
        raise Invalid(f"{key[:80]!r} is no usable name of an object: {flaw}")
    return key


def bucket_of(tenant: TenantId) -> str:
    return BUCKET_PREFIX + tenant


class ObjectStore:
    """The process's client of the store: one connection pool, at most eight calls at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="objects")
        self._opening = threading.Lock()

    @cached_property
    def _client(self) -> S3Client:
        key = ObjectKey(self._settings.objects_access_key, self._settings.objects_secret_key)
        client: S3Client = client_of(self._settings.objects_url, key)
        return client

    def tenant(self, tenant: TenantId) -> TenantObjects:
        """The objects of one tenant."""
        return TenantObjects(tenant, self)

    async def call(self, work: Callable[[S3Client], T]) -> T:
        """Run `work` with the client in a thread, its failures translated."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._translated, work))

    def _translated(self, work: Callable[[S3Client], T]) -> T:
        with self._opening:
            client = self._client
        with translated_failures():
            return work(client)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        if "_client" in self.__dict__:
            self._client.close()


def client_of(url: str, key: ObjectKey, service: str = "s3") -> Any:  # Any: boto3 types a client by a literal name
    """boto3's client, bounded: of S3, or of another service that is signed for the same way."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
        max_pool_connections=THREADS_MAX,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",  # not every S3-compatible store knows the newer ones
        response_checksum_validation="when_required",
    )
    make: Callable[..., Any] = boto3.client  # Any: as above
    with OPENING:
        return make(
            service,
            endpoint_url=url,
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key,
            region_name=REGION,
            config=config,
        )


@contextmanager
def translated_failures() -> Iterator[None]:
    """boto's errors as ours. Credentials the store refuses are a `Fault`: no caller can help it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as failure:
        code = str(failure.response.get("Error", {}).get("Code", ""))
        if code in MISSING:
            raise NotFound("there is no such object") from failure
        if code == TOO_LONG:
            raise Invalid("the object store takes no name this long: shorten it, or part it with slashes") from failure
        if code in REFUSED:
            raise Fault(f"the object store refuses this process's credentials: {code}") from failure
        raise Unavailable(f"the object store answered {code or 'an error'}", retry_after_s=2) from failure
    except BotoCoreError as failure:
        raise Unavailable(f"the object store does not answer: {type(failure).__name__}", retry_after_s=2) from failure


@dataclass(frozen=True)
class ObjectReading:
    """An object that is being read. `properties`: its own metadata, and the headers that it was stored with."""

    _store: ObjectStore
    head: ObjectHead
    properties: dict[str, object]
    _stream: StreamingBody

    async def blocks(self) -> AsyncIterator[bytes]:
        """Raises `Unavailable` when the store sends fewer bytes than it said."""
        while block := await self._store.call(lambda client: self._stream.read(READ_BYTES)):
            yield block


class TenantObjects:
    """The objects in one tenant's bucket."""

    def __init__(self, tenant: TenantId, store: ObjectStore) -> None:
        self.tenant = tenant
        self.bucket = bucket_of(tenant)
        self._store = store

    async def put(self, key: str, body: bytes | Path, content_type: str) -> ObjectHead:
        """Write an object whole; a file is streamed. Raises `Invalid`, `NotFound` without a bucket, `Unavailable`."""
        checked_key(key)
        return await self._store.call(lambda client: write(client, self.bucket, key, body, content_type))

    async def head(self, key: str) -> ObjectHead:
        """What the store tells of the object. Raises `NotFound`."""
        checked_key(key)
        return await self._store.call(lambda client: read_head(client, self.bucket, key))

    async def get(self, key: str, bytes_max: int) -> bytes:
        """The object's bytes. Raises `NotFound`, or `TooLarge` before more than `bytes_max` are held."""
        checked_key(key)
        return await self._store.call(lambda client: read_bytes(client, self.bucket, key, bytes_max))

    async def get_to_file(self, key: str, path: Path, bytes_max: int) -> ObjectHead:
        """Stream the object into a file. Raises as `get` does; the file is then absent."""
        checked_key(key)
        return await self._store.call(lambda client: read_to_file(client, self.bucket, key, path, bytes_max))

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[ObjectReading]:
        """The object's bytes as a stream, and all that the store tells of it. Raises `NotFound`, `Unavailable`.

        Any key that the bucket lists can be read, also one that `put` would refuse.
        """
        answer = await self._store.call(lambda client: client.get_object(Bucket=self.bucket, Key=key))
        try:
            yield ObjectReading(self._store, described(key, answer), properties_of(answer), answer["Body"])
        finally:
            await self._store.call(lambda client: answer["Body"].close())

    async def delete(self, key: str) -> None:
        """Delete the object; one that is not there is deleted already."""
        checked_key(key)
        await self._store.call(lambda client: client.delete_object(Bucket=self.bucket, Key=key))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectHead]:
        """Every object whose key starts with `prefix`, in the order of keys. Content types are not listed: empty."""
        token = ""
        for _ in range(LIST_KEYS_MAX // PAGE_KEYS):
            heads, token = await self._store.call(partial(list_page, bucket=self.bucket, prefix=prefix, token=token))
            for head in heads:
                yield head
            if not token:
                return
        raise Fault(f"bucket {self.bucket} holds more than {LIST_KEYS_MAX} objects under {prefix!r}")

    async def ensure_bucket(self) -> None:
        """Create the bucket unless it is there."""
        await self._store.call(lambda client: create_bucket(client, self.bucket))

    async def destroy_bucket(self) -> None:
        """Delete the bucket and all in it. Safe to call again."""
        await self._store.call(lambda client: destroy_bucket(client, self.bucket))


def write(client: S3Client, bucket: str, key: str, body: bytes | Path, content_type: str) -> ObjectHead:
    if isinstance(body, Path):
        with body.open("rb") as source:
            size = body.stat().st_size
            answer = client.put_object(Bucket=bucket, Key=key, Body=source, ContentType=content_type)
    else:
        size = len(body)
        answer = client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
    return ObjectHead(key, answer["ETag"].strip('"'), size, content_type)


def described(key: str, answer: GetObjectOutputTypeDef | HeadObjectOutputTypeDef) -> ObjectHead:
    return ObjectHead(key, answer["ETag"].strip('"'), answer["ContentLength"], answer.get("ContentType", ""))


def properties_of(answer: GetObjectOutputTypeDef) -> dict[str, object]:
    given: dict[str, object] = {name: answer[header] for name, header in PROPERTIES.items() if answer.get(header)}  # type: ignore[literal-required]  # the names are constants
    return {"modified": answer["LastModified"].isoformat(), **given, "metadata": dict(answer.get("Metadata", {}))}


def read_head(client: S3Client, bucket: str, key: str) -> ObjectHead:
    return described(key, client.head_object(Bucket=bucket, Key=key))


def read_to(target: BinaryIO, client: S3Client, bucket: str, key: str, bytes_max: int) -> ObjectHead:
    """Copy the object's bytes; head and bytes are of the same version."""
    answer = client.get_object(Bucket=bucket, Key=key)
    with answer["Body"] as stream:
        if answer["ContentLength"] > bytes_max:
            raise TooLarge(f"{key!r} has {answer['ContentLength']} bytes; at most {bytes_max} are read")
        while block := stream.read(READ_BYTES):
            target.write(block)
    return described(key, answer)


def read_bytes(client: S3Client, bucket: str, key: str, bytes_max: int) -> bytes:
    target = io.BytesIO()
    read_to(target, client, bucket, key, bytes_max)
    return target.getvalue()


def read_to_file(client: S3Client, bucket: str, key: str, path: Path, bytes_max: int) -> ObjectHead:
    try:
        with path.open("wb") as target:
            return read_to(target, client, bucket, key, bytes_max)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def list_page(client: S3Client, *, bucket: str, prefix: str, token: str) -> tuple[list[ObjectHead], str]:
    more = {"ContinuationToken": token} if token else {}
    answer = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, **more)  # type: ignore[arg-type]
    heads = [ObjectHead(one["Key"], one["ETag"].strip('"'), one["Size"], "") for one in answer.get("Contents", [])]
    return heads, answer.get("NextContinuationToken", "")


def create_bucket(client: S3Client, bucket: str) -> None:
    try:
        client.create_bucket(Bucket=bucket)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        return


def destroy_bucket(client: S3Client, bucket: str) -> None:
    try:
        token = "more"  # noqa: S105  a page's token
        while token:
            heads, token = list_page(client, bucket=bucket, prefix="", token="")
            for head in heads:
                client.delete_object(Bucket=bucket, Key=head.key)
        client.delete_bucket(Bucket=bucket)
    except client.exceptions.NoSuchBucket:
        return
