"""A tenant's key of a real MinIO: made over the admin API, it opens one bucket. Run with `--with minio`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.errors import Fault
from shared.object_keys import Minio as Maker
from shared.object_keys import accepted, buckets_shown, sealed, signed_call
from shared.objects import REFUSED, ObjectKey, client_of
from tests.minio.server import Minio, minio_server
from tests.shared.test_object_keys import refusal

pytestmark = [pytest.mark.minio, pytest.mark.timeout(1500)]
MINE, OTHERS = "dcoder-acme", ("dcoder-acme-2", "dcoder-acmee", "dcoder-other")


@pytest.fixture(scope="module")
def minio() -> Iterator[Minio]:
    with minio_server("http://127.0.0.1:9", "token") as server:
        client = client_of(server.url, platform_key(server))
        for name in (MINE, *OTHERS):
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="documents/x", Body=b"theirs")
        yield server


def platform_key(server: Minio) -> ObjectKey:
    return ObjectKey(server.access_key, server.secret_key)


@pytest.fixture
def maker(minio: Minio) -> Iterator[Maker]:
    maker = Maker(minio.url, platform_key(minio))
    yield maker
    maker.end(MINE)


def test_it_does_in_its_bucket_what_functions_do(minio: Minio, maker: Maker) -> None:
    client = client_of(minio.url, maker.make(MINE))

    client.put_object(Bucket=MINE, Key="documents/a", Body=b"1")
    assert client.get_object(Bucket=MINE, Key="documents/a")["Body"].read() == b"1"
    assert client.head_object(Bucket=MINE, Key="documents/x")["ContentLength"] == 6
    assert [one["Key"] for one in client.list_objects_v2(Bucket=MINE)["Contents"]] == ["documents/a", "documents/x"]
    client.delete_object(Bucket=MINE, Key="documents/a")
    assert refusal(lambda: client.get_object(Bucket=MINE, Key="documents/a")) == "NoSuchKey"


def test_every_other_bucket_is_refused_and_none_is_seen(minio: Minio, maker: Maker) -> None:
    key = maker.make(MINE)
    client = client_of(minio.url, key)

    for other in OTHERS:
        assert not accepted(minio.url, key, other)
        for work in (
            lambda other=other: client.get_object(Bucket=other, Key="documents/x"),
            lambda other=other: client.put_object(Bucket=other, Key="documents/x", Body=b"mine"),
            lambda other=other: client.delete_object(Bucket=other, Key="documents/x"),
            lambda other=other: client.list_objects_v2(Bucket=other),
        ):
            assert refusal(work) in REFUSED, other
    assert buckets_shown(minio.url, key) == [MINE]
    assert refusal(lambda: client.create_bucket(Bucket="dcoder-new")) in REFUSED
    assert refusal(lambda: client.delete_bucket(Bucket=MINE)) in REFUSED


def test_the_admin_api_refuses_it_and_a_further_key_of_its_own_opens_no_more(minio: Minio, maker: Maker) -> None:
    key = maker.make(MINE)
    admin = f"{minio.url}/minio/admin/v3"
    user = sealed(key.secret_key, json.dumps({"secretKey": "hunter2hunter2", "status": "enabled"}))

    assert signed_call(key, "GET", f"{admin}/list-users", b"").status_code == 403
    assert signed_call(key, "PUT", f"{admin}/add-user?accessKey=evil", user).status_code == 403
    everything = {"policyName": "consoleAdmin", "userOrGroup": key.access_key, "isGroup": "false"}
    query = "&".join(f"{name}={value}" for name, value in everything.items())
    assert signed_call(key, "PUT", f"{admin}/set-user-or-group-policy?{query}", b"").status_code == 403
    further = ObjectKey("further-key-of-acme", "hunter2hunter2")
    wished = {"accessKey": further.access_key, "secretKey": further.secret_key, "targetUser": key.access_key}
    made = signed_call(key, "PUT", f"{admin}/add-service-account", sealed(key.secret_key, json.dumps(wished)))
    assert made.status_code == 200, made.content
    assert accepted(minio.url, further, MINE)
    for other in OTHERS:
        assert not accepted(minio.url, further, other)
    maker.end(MINE)
    assert not accepted(minio.url, further, MINE)


def test_nobody_guesses_a_keys_name_from_its_tenants(minio: Minio, maker: Maker) -> None:
    first, second = maker.make(MINE), maker.make(MINE)

    assert first.access_key != second.access_key
    assert "acme" not in second.access_key
    group = f"{minio.url}/minio/admin/v3/group?group={MINE}"
    assert signed_call(platform_key(minio), "GET", group, b"").status_code == 200
    maker.end(MINE)
    assert signed_call(platform_key(minio), "GET", group, b"").status_code == 404


def test_making_again_ends_every_earlier_key_and_ending_may_be_repeated(minio: Minio, maker: Maker) -> None:
    first, second = maker.make(MINE), maker.make(MINE)

    assert not accepted(minio.url, first, MINE)
    assert accepted(minio.url, second, MINE)
    maker.end(MINE)
    maker.end(MINE)
    assert not accepted(minio.url, second, MINE)


def test_a_platform_that_may_not_make_users_is_told_so(minio: Minio, maker: Maker) -> None:
    with pytest.raises(Fault, match="may the platform's own key make users there") as refused:
        Maker(minio.url, maker.make(MINE)).make("dcoder-other")
    assert minio.secret_key not in str(refused.value)
