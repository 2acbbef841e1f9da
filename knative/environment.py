"""What differs from cluster to cluster: one small file, `knative/environments/<name>.yaml`, with no secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import Fault
from shared.tenancy.saga import ROLE_CONNECTIONS_MAX

FOLDER = Path(__file__).resolve().parent / "environments"
Label = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
Host = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Cidr = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Placement = Literal["alone", "capability", "all"]


Image = Annotated[str, Field(pattern=r"^[a-z0-9.:/_-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$")]


class Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Pod(Typed):
    """A store as a pod of the platform's namespace (`knative/base`), with a volume of its own."""

    image: Image
    storage_gib: Annotated[int, Field(ge=1)]
    storage_class: Label | None = None
    """Null: the cluster's default."""
    cpu_millicores: Annotated[int, Field(ge=10)]
    memory_mib: Annotated[int, Field(ge=64)]


class Placed(Typed):
    """Where a store is: your own, which listens at `cidr`, or a pod."""

    port: Port
    cidr: Cidr | None = None
    pod: Pod | None = None

    @model_validator(mode="after")
    def either(self) -> Self:
        if (self.cidr is None) == (self.pod is None):
            raise ValueError("give cidr, where your own store listens, or pod, and not both")
        return self


class Store(Placed):
    """A server whose URL holds a password: key `url` of the named Secret."""

    secret: Label


class Listener(Typed):
    """Where a server listens."""

    cidr: Cidr
    port: Port


class PostgresServers(Typed):
    """Further PostgreSQL servers for tenants: key `servers` of the named Secret is `DCODER_POSTGRES_SERVERS`."""

    secret: Label
    listeners: Annotated[list[Listener], Field(min_length=1)]


class Objects(Placed):
    """An S3-compatible store: the Secret holds `access-key` and `secret-key`."""

    secret: Label
    url: Annotated[str, Field(pattern=r"^https?://[^@/]+$")]
    keys: Annotated[str, Field(pattern=r"^(minio|https?://[^@/]+)$")] | None = None
    """`DCODER_OBJECTS_KEYS`: how tenants get keys of their own bucket. Null: operators bring them."""
    keys_at: Listener | None = None
    """Where that is, when it is not at the store."""


class JetStream(Typed):
    """Where the events of a Broker of class `NatsJetStreamBroker` are kept, how long, and how many."""

    nats: Placed
    keep_hours: Annotated[int, Field(ge=1)]
    keep_mib: Annotated[int, Field(ge=1)]
    """Over it the oldest go first."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Of the stream; as many NATS servers must be there."""
    api_server: Listener
    """Of Kubernetes: what hands the events on, in the platform's namespace, watches the Triggers."""


class Broker(Typed):
    """What carries events. `ingress` is where the class takes them, without the Broker's own path."""

    kind: Literal["MTChannelBasedBroker", "NatsJetStreamBroker"]
    ingress: Annotated[str, Field(pattern=r"^http://[^@/]+$")]
    jetstream: JetStream | None = None

    @model_validator(mode="after")
    def kept_somewhere(self) -> Self:
        if (self.kind == "NatsJetStreamBroker") != (self.jetstream is not None):
            raise ValueError("kind NatsJetStreamBroker needs jetstream, and no other has it")
        return self


class Collector(Listener):
    """Takes spans and metrics by OTLP over HTTP. Key `headers` of the Secret is `DCODER_OTLP_HEADERS`; null: it wants
    none."""

    url: Annotated[str, Field(pattern=r"^https?://[^@/]+$")]
    secret: Label | None = None


class PgBouncer(Typed):
    """PgBouncer between the functions and PostgreSQL, as pods of the platform's namespace."""

    image: Image
    port: Port
    cpu_millicores: Annotated[int, Field(ge=10)]
    memory_mib: Annotated[int, Field(ge=32)]
    instances_min: Annotated[int, Field(ge=1)]
    instances_max: Annotated[int, Field(ge=1)]
    control_connections_max: Annotated[int, Field(ge=1)]
    """Of one instance to the control database."""
    tenant_connections_max: Annotated[int, Field(ge=1)]
    """Of one instance to each tenant's database."""

    @model_validator(mode="after")
    def within_the_roles_limit(self) -> Self:
        if self.instances_min > self.instances_max:
            raise ValueError("instances_min is over instances_max")
        if self.instances_max * self.tenant_connections_max > ROLE_CONNECTIONS_MAX:
            limit = f"{ROLE_CONNECTIONS_MAX}, what a tenant's role may have"
            raise ValueError(f"instances_max times tenant_connections_max is over {limit}")
        return self


class Sizes(Typed):
    """One instance's share of a node, and the most instances that a group may have."""

    cpu_request_millicores: Annotated[int, Field(ge=1)]
    cpu_limit_millicores: Annotated[int, Field(ge=1)]
    memory_request_mib: Annotated[int, Field(ge=64)]
    memory_limit_mib: Annotated[int, Field(ge=64)]
    scratch_mib: Annotated[int, Field(ge=1)]
    instances_max: Annotated[int, Field(ge=1)]
    tenant_instances_max: Annotated[int, Field(ge=1)] = 4
    """The most instances of one tenant's own namespace, of all functions that are dedicated to it together."""
    connections_max: Annotated[int, Field(ge=1)]


class Environment(Typed):
    """One cluster."""

    name: Label
    namespace: Label
    image: Image
    translate_image: Image | None = None
    """Of gateway-translate (`dcoder image build --variant translate`). Null: nothing is translated."""
    placement: Placement
    domain: Host
    routes: Literal["kourier", "kong"] = "kourier"
    """What answers outside: Kourier itself, or Kong in front of it. From function to function it is Kourier always."""
    tls_secret: Label | None
    """Secret with the certificate of `*.<domain>`; null serves plain HTTP."""
    broker: Broker
    postgres: Store
    postgres_servers: PostgresServers | None = None
    pgbouncer: PgBouncer | None = None
    """Null: functions connect to PostgreSQL, or to a pooler of your own at its address."""
    redis: Store
    objects: Objects
    collector: Collector | None = None
    """Null: nobody is told of calls."""
    keys_secret: Label
    """Secret with root.key, tokens.key, audit.key, pepper.key and hooks.key, 32 bytes each."""
    sizes: Sizes

    def image_of(self, variant: str) -> str | None:
        """The image for functions that want this one; None where they are not deployed."""
        return self.translate_image if variant == "translate" else self.image

    @property
    def pods(self) -> dict[str, Pod]:
        """The stores that are pods, by name."""
        stores: dict[str, Placed] = {"postgres": self.postgres, "redis": self.redis, "objects": self.objects}
        if self.broker.jetstream is not None:
            stores["nats"] = self.broker.jetstream.nats
        return {name: one.pod for name, one in stores.items() if one.pod is not None}


def parse(text: str, source: str) -> Environment:
    """The environment in a file's text. Raises `Fault` naming the file, the field and the rule."""
    try:
        return Environment.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as broken:
        raise Fault(f"{source} is not YAML: {broken}") from broken
    except ValidationError as refused:
        first = refused.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Fault(f"{source}: {field or 'the file'}: {first['msg']}") from refused


def with_image(environment: Environment, image: str) -> Environment:
    """The environment with another image, and the translator's of that release where it is called after the first.

    Raises `Fault` for what is no name of one.
    """
    changed = {"image": image}
    if environment.translate_image is not None and environment.translate_image == beside(environment.image):
        changed["translate_image"] = beside(image)
    return parse(yaml.safe_dump({**environment.model_dump(mode="json"), **changed}), "--image")


def beside(image: str) -> str:
    """What the translator's image of a release is called, unless the environment says otherwise.

    Raises `Fault` for a digest, which says nothing of another image.
    """
    repository, colon, tag = image.rpartition(":")
    if not colon or "@" in image or "/" in tag:
        raise Fault(f"{image!r} has no tag, so the translator's image cannot be told from it; name both in the file")
    return f"{repository}-translate:{tag}"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Environment:
    """The named environment. Raises `Fault`."""
    if name not in names():
        raise Fault(f"no environment {name!r}. Known: {', '.join(names())}")
    environment = parse((FOLDER / f"{name}.yaml").read_text(), f"knative/environments/{name}.yaml")
    if environment.name != name:
        raise Fault(f"knative/environments/{name}.yaml: name: is {environment.name!r}, must be the file's name")
    return environment
