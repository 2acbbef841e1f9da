"""Where the process's stores and secrets are: read once from the environment, never from anywhere else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import Fault

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
SERVER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NOT_GRANTED = "not-granted"
"""`Settings` wants every variable. Who was not given a store gets no address of it."""
DEFAULT_SERVER = "default"
"""The name of the PostgreSQL server that holds the control database."""


@dataclass(frozen=True)
class Settings:
    """One process's configuration. `from_environment` names the variable behind each field."""

    postgres_url: str = field(repr=False)
    """Control database `dcoder`, as the platform's role (may create roles and databases): postgresql://…/dcoder."""
    redis_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    """Where events go when there is no `broker_url`."""
    objects_url: str
    objects_access_key: str
    objects_secret_key: str = field(repr=False)
    """In a process of one tenant these two open that tenant's bucket alone."""
    platform_url: str
    """Where functions reach functions over HTTP, without a trailing slash."""
    llm_url: str
    secrets_dir: Path
    """Folder of 32-byte key files, each mode 0600: root.key, tokens.key, audit.key, pepper.key, hooks.key."""
    functions: tuple[str, ...] = ()
    """Names of the functions this process serves; empty means all."""
    dedicated_tenant: str = ""
    """When set, the process serves this tenant only, `postgres_url` is the tenant's own database, and of keys there are
    issuer.key (the public half of tokens.key) and, for who seals, data.key."""
    bundle: Path | None = None
    """Folder of the signed bundle that holds the function to serve, in place of those of the image."""
    bundle_digest: str = ""
    """SHA-256 of the statement of exactly that bundle, in hexadecimal digits; any other is refused."""
    objects_keys: str = ""
    """How tenants get keys of the object store that open their own bucket alone: the address of IAM's API (SeaweedFS:
    its own; AWS: https://iam.amazonaws.com), or `minio` for MinIO's admin API. Empty: operators bring them."""
    connections_max: int = 16
    """Hard budget of PostgreSQL connections for this process."""
    postgres_servers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further PostgreSQL servers for tenants, by name: the platform's role on each, postgresql://…/<any database>."""
    broker_url: str = ""
    """Ingress of the Knative Broker that carries events; empty where NATS does."""
    checkpoint_files: bool = True
    """Whether signed checkpoints also go to files beside `secrets_dir`. Where no disk lasts they go to the object
    store alone, which then must take them."""
    translate_url: str = ""
    """Where gateway-translate answers, when that is not at `platform_url`."""
    private_provider_urls: bool = False
    """Whether a tenant's provider may have a loopback or private address (local stacks, in-house models)."""

    otlp_url: str = ""
    """Where a collector takes OTLP over HTTP, without `/v1/traces`: spans and metrics go there. Empty: nowhere."""
    otlp_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the collector wants to see in the head of a request: name=value, separated by commas, values
    percent-encoded."""

    responses_days: int = 30
    """How long what is asked and answered through /v1/responses is kept, where its caller lets it be kept."""

    @property
    def has_database(self) -> bool:
        """Whether there is a database for this process. A tenant's own function has one only if it asks for it."""
        return self.postgres_url != NOT_GRANTED

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read `DCODER_*`. Raises `Fault` naming the first variable that is missing or unusable."""
        source = os.environ if environment is None else environment

        def required(name: str) -> str:
            value = source.get(name, "")
            if not value:
                raise Fault(
                    f"{name} is not set. `dcoder up` sets it for local functions; see docs/reference/settings.md"
                )
            return value

        def whole(name: str, default: int) -> int:
            text = source.get(name, str(default))
            if not text.isdigit() or int(text) < 1:
                raise Fault(f"{name}={text!r} is not a whole number above 0")
            return int(text)

        def postgres(name: str) -> str:
            url = required(name)
            if url == NOT_GRANTED and source.get("DCODER_BUNDLE"):
                return url
            if flaw := address_flaw(url):  # never the address itself: it holds a password
                raise Fault(f"{name} {flaw}. Expected: postgresql://dcoder:password@host:5432/dcoder")
            return url

        return cls(
            postgres_url=postgres("DCODER_POSTGRES_URL"),
            redis_url=required("DCODER_REDIS_URL"),
            nats_url=required("DCODER_NATS_URL"),
            objects_url=required("DCODER_OBJECTS_URL").rstrip("/"),
            objects_access_key=required("DCODER_OBJECTS_ACCESS_KEY"),
            objects_secret_key=required("DCODER_OBJECTS_SECRET_KEY"),
            platform_url=required("DCODER_PLATFORM_URL").rstrip("/"),
            llm_url=required("DCODER_LLM_URL").rstrip("/"),
            secrets_dir=Path(required("DCODER_SECRETS_DIR")),
            functions=function_names(source.get("DCODER_FUNCTION", "")),
            dedicated_tenant=source.get("DCODER_TENANT", ""),
            bundle=Path(source["DCODER_BUNDLE"]) if source.get("DCODER_BUNDLE") else None,
            bundle_digest=source.get("DCODER_BUNDLE_DIGEST", ""),
            objects_keys=maker_of_keys(source.get("DCODER_OBJECTS_KEYS", "")),
            connections_max=whole("DCODER_CONNECTIONS_MAX", 16),
            postgres_servers=named_servers(source.get("DCODER_POSTGRES_SERVERS", "")),
            broker_url=source.get("DCODER_BROKER_URL", ""),
            checkpoint_files=source.get("DCODER_CHECKPOINT_FILES", "true") == "true",
            translate_url=source.get("DCODER_TRANSLATE_URL", "").rstrip("/"),
            private_provider_urls=source.get("DCODER_PRIVATE_PROVIDER_URLS", "") == "true",
            otlp_url=collector_url(source.get("DCODER_OTLP_URL", "")),
            otlp_headers=collector_headers(source.get("DCODER_OTLP_HEADERS", "")),
            responses_days=whole("DCODER_RESPONSES_DAYS", 30),
        )


def maker_of_keys(text: str) -> str:
    """`DCODER_OBJECTS_KEYS`. Raises `Fault`."""
    parts = urlsplit(text)
    if text in ("", "minio") or (parts.scheme in ("http", "https") and parts.hostname and not parts.username):
        return text.rstrip("/")
    raise Fault(
        "DCODER_OBJECTS_KEYS is neither `minio` nor the address of IAM's API. Expected: https://iam.amazonaws.com"
    )


def collector_url(text: str) -> str:
    """`DCODER_OTLP_URL`. Raises `Fault`, without repeating what may hold a password."""
    try:
        parts = urlsplit(text)
        usable = not text or (
            parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query)
        )
    except ValueError:
        usable = False
    if not usable:
        raise Fault("DCODER_OTLP_URL is not the address of a collector. Expected: http://collector:4318")
    return text.rstrip("/")


def collector_headers(text: str) -> dict[str, str]:
    """`DCODER_OTLP_HEADERS`, as OTEL_EXPORTER_OTLP_HEADERS has them. Raises `Fault`, without repeating a value."""
    found: dict[str, str] = {}
    for place, pair in enumerate(filter(None, text.split(",")), 1):
        name, equals, value = pair.partition("=")
        value = unquote(value).strip()
        if not equals or not HEADER_NAME.fullmatch(name.strip()) or not value.isprintable():
            raise Fault(f"DCODER_OTLP_HEADERS: number {place} is no header. Expected: name=value,name=value")
        found[name.strip().lower()] = value
    return found


def function_names(text: str) -> tuple[str, ...]:
    """`DCODER_FUNCTION`: names separated by commas; empty or `all` means every function."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return () if names == ("all",) else names


def named_servers(text: str) -> dict[str, str]:
    """`DCODER_POSTGRES_SERVERS`: a JSON object from name to address; empty means none.

    Raises `Fault` with the flaw, never with an address: each holds a password.
    """
    if not text:
        return {}
    try:
        found = json.loads(text, object_pairs_hook=once_each)
    except ValueError:
        raise refused_servers("it is not JSON with each name once") from None
    if not isinstance(found, dict):
        raise refused_servers("it is not a JSON object")
    for name, url in found.items():
        if not SERVER_NAME.fullmatch(name):
            raise refused_servers(
                f"{name[:40]!r} is no name; a name has 1 to 32 of a-z, 0-9 and hyphens, a letter first"
            )
        if name == DEFAULT_SERVER:
            raise refused_servers(f"{name!r} is the server of DCODER_POSTGRES_URL and is not listed again")
        if flaw := address_flaw(url):
            raise refused_servers(f"the address of {name!r} {flaw}")
    return found


def once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def refused_servers(flaw: str) -> Fault:
    return Fault(
        f"DCODER_POSTGRES_SERVERS is not usable: {flaw}. "
        'Expected: {"second": "postgresql://dcoder:password@host:5432/dcoder"}'
    )


def address_flaw(url: object) -> str:
    """Why an address cannot be one of PostgreSQL, or an empty text."""
    if not isinstance(url, str):
        return "is not a text"
    try:
        parts = urlsplit(url)
        port_flaw = "" if parts.port != 0 else "has port 0"
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("postgresql", "postgres"):
        return "does not begin with postgresql://"
    if not parts.hostname or not parts.username:
        return "names no host or no role"
    return port_flaw or ("" if len(parts.path) > 1 else "names no database to connect to")
