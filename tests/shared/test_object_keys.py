"""A tenant's key of a real object store: it opens one bucket, and the store itself refuses everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from shared.errors import Fault, Unavailable
from shared.host.seaweed import Seaweed, SeaweedPorts
from shared.object_keys import Iam, Maker, accepted, buckets_shown, maker_of
from shared.objects import REFUSED, ObjectKey, client_of
from shared.settings import Settings
from tests.fixtures.ports import free_ports
from tests.fixtures.servers import ObjectsServer, running, scratch_directory

Client = Any  # Any: boto3 types a client by a literal name


def platform_key(server: ObjectsServer | Seaweed) -> ObjectKey:
    return ObjectKey(server.access_key, server.secret_key)


def refusal(work: Callable[[], object]) -> str:
    """The store's word for why not; empty when it did it."""
    from botocore.exceptions import ClientError

    try:
        work()
    except ClientError as failure:
        status = failure.response["ResponseMetadata"]["HTTPStatusCode"]
        return str(failure.response.get("Error", {}).get("Code") or status)
    return ""


@pytest.fixture
def maker(objects_server: ObjectsServer) -> Maker:
    return Iam(objects_server.url, platform_key(objects_server))


@pytest.fixture
def buckets(objects_server: ObjectsServer) -> Iterator[tuple[str, list[str]]]:
    """A bucket, and others whose names begin like its own, each with an object."""
    mine = f"dcoder-t{token_hex(4)}"
    others = [f"{mine}-2", f"{mine}x", mine[:-1], "dcoder-" + token_hex(4)]
    client = client_of(objects_server.url, platform_key(objects_server))
    for name in (mine, *others):
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="documents/x", Body=b"theirs")
    yield mine, others
    for name in (mine, *others):
        for one in client.list_objects_v2(Bucket=name).get("Contents", []):
            client.delete_object(Bucket=name, Key=one["Key"])
        client.delete_bucket(Bucket=name)
    client.close()


def test_it_does_in_its_bucket_what_functions_do(
    objects_server: ObjectsServer, maker: Maker, buckets: tuple[str, list[str]]
) -> None:
    mine, _ = buckets
    client = client_of(objects_server.url, maker.make(mine))

    client.put_object(Bucket=mine, Key="documents/a", Body=b"1")
    assert client.get_object(Bucket=mine, Key="documents/a")["Body"].read() == b"1"
    assert client.head_object(Bucket=mine, Key="documents/x")["ContentLength"] == 6
    assert [one["Key"] for one in client.list_objects_v2(Bucket=mine)["Contents"]] == ["documents/a", "documents/x"]
    client.delete_object(Bucket=mine, Key="documents/a")
    assert refusal(lambda: client.get_object(Bucket=mine, Key="documents/a")) == "NoSuchKey"
    maker.end(mine)


def test_every_other_bucket_is_refused_also_one_whose_name_begins_alike(
    objects_server: ObjectsServer, maker: Maker, buckets: tuple[str, list[str]]
) -> None:
    mine, others = buckets
    key = maker.make(mine)
    client = client_of(objects_server.url, key)

    for other in others:
        place = {"Bucket": other, "Key": "documents/x"}
        tried = {
            "head": lambda place=place: client.head_object(**place),
            "get": lambda place=place: client.get_object(**place),
            "put": lambda place=place: client.put_object(**place, Body=b"mine"),
            "delete": lambda place=place: client.delete_object(**place),
            "list": lambda other=other: client.list_objects_v2(Bucket=other),
            "copy in": lambda other=other: client.copy_object(
                Bucket=other, Key="documents/c", CopySource={"Bucket": mine, "Key": "documents/x"}
            ),
            "copy out": lambda place=place: client.copy_object(Bucket=mine, Key="documents/c", CopySource=place),
            "delete bucket": lambda other=other: client.delete_bucket(Bucket=other),
        }
        for what, work in tried.items():
            assert refusal(work) in REFUSED, (what, other)
        assert not accepted(objects_server.url, key, other)
    platform = client_of(objects_server.url, platform_key(objects_server))
    assert platform.get_object(Bucket=others[0], Key="documents/x")["Body"].read() == b"theirs"
    maker.end(mine)


def test_it_neither_sees_other_buckets_nor_makes_nor_opens_one(
    objects_server: ObjectsServer, maker: Maker, buckets: tuple[str, list[str]]
) -> None:
    mine, _ = buckets
    key = maker.make(mine)
    client = client_of(objects_server.url, key)
    public = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}'

    assert buckets_shown(objects_server.url, key) == [mine]
    assert refusal(lambda: client.create_bucket(Bucket=f"{mine}-new")) in REFUSED
    assert refusal(lambda: client.put_bucket_policy(Bucket=mine, Policy=public)) in REFUSED
    assert refusal(lambda: client.put_bucket_acl(Bucket=mine, ACL="public-read")) in REFUSED
    assert refusal(lambda: client.delete_bucket(Bucket=mine)) in REFUSED
    maker.end(mine)


def test_the_stores_admin_api_takes_it_for_nothing_but_its_own_keys(
    objects_server: ObjectsServer, maker: Maker, buckets: tuple[str, list[str]]
) -> None:
    mine, others = buckets
    iam: Client = client_of(objects_server.url, maker.make(mine), service="iam")
    everything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::*"}]}'

    for work in (
        lambda: iam.list_users(),
        lambda: iam.create_user(UserName="evil"),
        lambda: iam.get_user(UserName="dcoder"),
        lambda: iam.create_access_key(UserName="dcoder"),
        lambda: iam.put_user_policy(UserName=mine, PolicyName="bucket", PolicyDocument=everything),
        lambda: iam.delete_user(UserName=mine),
    ):
        assert refusal(work) == "403"
    # SeaweedFS lets a user make itself further keys. They open what it opens, and end with it.
    more = iam.create_access_key(UserName=mine)["AccessKey"]
    further = ObjectKey(more["AccessKeyId"], more["SecretAccessKey"])
    assert not accepted(objects_server.url, further, others[0])
    maker.end(mine)
    assert not accepted(objects_server.url, further, mine)


def test_making_again_ends_every_earlier_key_and_ending_may_be_repeated(
    objects_server: ObjectsServer, maker: Maker, buckets: tuple[str, list[str]]
) -> None:
    mine, _ = buckets
    first, second = maker.make(mine), maker.make(mine)

    assert not accepted(objects_server.url, first, mine)
    assert accepted(objects_server.url, second, mine)
    maker.end(mine)
    maker.end(mine)
    assert not accepted(objects_server.url, second, mine)
    assert maker.make(mine) != second
    maker.end(mine)


def test_a_key_outlives_a_restart_of_the_store_and_the_platforms_own_stays_in_force() -> None:
    with scratch_directory() as home:
        server = Seaweed(home / "objects", SeaweedPorts(*free_ports(8)), token_hex(8), token_hex(16))
        with running(server, home):
            client_of(server.url, platform_key(server)).create_bucket(Bucket="dcoder-acme")
            key = Iam(server.url, platform_key(server)).make("dcoder-acme")
        with running(server, home):
            assert accepted(server.url, key, "dcoder-acme")
            assert buckets_shown(server.url, platform_key(server)) == ["dcoder-acme"]


def test_a_store_without_the_api_is_named_and_no_secret_with_it() -> None:
    class Closed(Seaweed):
        def options(self) -> dict[str, object]:
            return {**super().options(), "s3.iam": "false"}

    with scratch_directory() as home:
        server = Closed(home / "objects", SeaweedPorts(*free_ports(8)), token_hex(8), token_hex(16))
        with running(server, home), pytest.raises(Fault, match="DCODER_OBJECTS_KEYS") as refused:
            Iam(server.url, platform_key(server)).make("dcoder-acme")
    assert server.secret_key not in str(refused.value) + repr(refused.value.__cause__)


def test_what_does_not_answer_can_be_tried_again() -> None:
    with pytest.raises(Unavailable):
        Iam("http://127.0.0.1:9", ObjectKey("a", "b")).make("dcoder-acme")


def test_a_key_does_not_show_its_secret() -> None:
    assert "hunter2" not in repr(ObjectKey("name", "hunter2"))


def test_a_store_of_which_nothing_is_said_makes_no_keys(objects_server: ObjectsServer) -> None:
    settings = Settings(
        postgres_url="", redis_url="", nats_url="", platform_url="", llm_url="", secrets_dir=Path("/nonexistent"),
        objects_url=objects_server.url, objects_access_key="a", objects_secret_key="b",
    )  # fmt: skip
    assert maker_of(settings) is None
    assert isinstance(maker_of(replace(settings, objects_keys=objects_server.url)), Iam)
