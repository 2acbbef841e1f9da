"""Keys of the object store that open one bucket and no other, made where the store lets them be made.

Two ways: IAM's API, which AWS and SeaweedFS have, and MinIO's admin API. Either makes a user whose policy allows what
`TenantObjects` does in that bucket, and takes away all keys that were made for the bucket before: who was killed before
it kept a key makes another. Everything here may be repeated.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from shared.errors import Fault, Unavailable
from shared.objects import READ_TIMEOUT_S, REFUSED, REGION, ObjectKey, client_of

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse

    from shared.settings import Settings

MINIO = "minio"
"""`DCODER_OBJECTS_KEYS` for MinIO's admin API, at the store's own address."""
POLICY_NAME = "bucket"
UNKNOWN = "NoSuchEntity"
SECRET_BYTES = 24
NAME_BYTES = 10
NOT_FOUND = 404

Policy = Mapping[str, object]


class Maker(Protocol):
    """Makes and ends the keys of a store. Both block, and raise `Fault` or `Unavailable`."""

    def make(self, bucket: str) -> ObjectKey: ...
    def end(self, bucket: str) -> None: ...


def maker_of(settings: Settings) -> Maker | None:
    """How this store makes keys; None where nobody said that it does."""
    if not settings.objects_keys:
        return None
    platform = ObjectKey(settings.objects_access_key, settings.objects_secret_key)
    if settings.objects_keys == MINIO:
        return Minio(settings.objects_url, platform)
    return Iam(settings.objects_keys, platform)


def policy_of(bucket: str) -> Policy:
    """What `TenantObjects` does, in that bucket, and nothing else."""
    place = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [place]},
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                "Resource": [f"{place}/*"],
            },
        ],
    }


def accepted(url: str, key: ObjectKey, bucket: str) -> bool:
    """Whether the store lets the key into the bucket. Raises botocore's errors for anything but yes and no."""
    from botocore.exceptions import ClientError

    client = client_of(url, key)
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as failure:
        if failure.response.get("Error", {}).get("Code") in REFUSED:
            return False
        raise
    finally:
        client.close()
    return True


def buckets_shown(url: str, key: ObjectKey) -> list[str]:
    """The buckets that the store lists for the key; none where it refuses to."""
    from botocore.exceptions import ClientError

    client = client_of(url, key)
    try:
        return [one["Name"] for one in client.list_buckets()["Buckets"]]
    except ClientError as failure:
        if failure.response.get("Error", {}).get("Code") in REFUSED:
            return []
        raise
    finally:
        client.close()


@contextmanager
def said_plainly(bucket: str) -> Iterator[None]:
    """botocore's errors as ours: what the store said, never what it was sent."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ResponseParserError as failure:
        raise refused(bucket, 0, "in another protocol") from failure
    except ClientError as failure:
        status = failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise refused(bucket, status, str(failure.response.get("Error", {}).get("Code", ""))) from failure
    except BotoCoreError as failure:
        raise Unavailable(f"what makes keys of the object store does not answer: {type(failure).__name__}") from failure


def refused(bucket: str, status: int, code: str) -> Fault | Unavailable:
    if status >= 500:
        return Unavailable(f"the object store cannot make a key now: it answered {status} {code}", retry_after_s=2)
    return Fault(
        f"the object store makes no key for bucket {bucket!r}: it answered {code or status}. "
        "Does DCODER_OBJECTS_KEYS name what it has, and may the platform's own key make users there?"
    )


class Iam:
    """IAM's API (AWS Identity and Access Management, 2010-05-08): a user with an inline policy and one access key."""

    def __init__(self, url: str, platform: ObjectKey) -> None:
        self._url = url
        self._platform = platform

    def make(self, bucket: str) -> ObjectKey:
        with said_plainly(bucket), self._client() as iam:
            unless("EntityAlreadyExists", lambda: iam.create_user(UserName=bucket))
            iam.put_user_policy(UserName=bucket, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy_of(bucket)))
            take_keys(iam, bucket)
            made = iam.create_access_key(UserName=bucket)["AccessKey"]
            return ObjectKey(made["AccessKeyId"], made["SecretAccessKey"])

    def end(self, bucket: str) -> None:
        with said_plainly(bucket), self._client() as iam:
            unless(UNKNOWN, lambda: take_keys(iam, bucket))
            unless(UNKNOWN, lambda: iam.delete_user_policy(UserName=bucket, PolicyName=POLICY_NAME))
            unless(UNKNOWN, lambda: iam.delete_user(UserName=bucket))

    @contextmanager
    def _client(self) -> Iterator[Any]:  # Any: IAM's client is not typed here
        client = client_of(self._url, self._platform, service="iam")
        try:
            yield client
        finally:
            client.close()


def take_keys(iam: Any, user: str) -> None:  # Any: as above
    for one in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=user, AccessKeyId=one["AccessKeyId"])


def unless(code: str, work: Callable[[], object]) -> None:
    """Do it; an answer of that code says that it is so already."""
    from botocore.exceptions import ClientError

    try:
        work()
    except ClientError as failure:
        if failure.response.get("Error", {}).get("Code") != code:
            raise


class Minio:
    """MinIO's admin API, version 3: a group and a policy named like the bucket, and in the group one user.

    The user's name is the name of its key, and so is random: nobody guesses it from the tenant's. By the group it is
    found again. A user, rather than an access key of the platform's user: it can make itself further keys, and none of
    them can do more than it does.
    """

    def __init__(self, url: str, platform: ObjectKey) -> None:
        self._url = url
        self._platform = platform

    def make(self, bucket: str) -> ObjectKey:
        self.end(bucket)
        made = ObjectKey(secrets.token_hex(NAME_BYTES), secrets.token_urlsafe(SECRET_BYTES))
        user = sealed(self._platform.secret_key, json.dumps({"secretKey": made.secret_key, "status": "enabled"}))
        granted = {"policyName": bucket, "userOrGroup": bucket, "isGroup": "true"}
        with said_plainly(bucket):
            self._call("PUT", "add-canned-policy", bucket, {"name": bucket}, json.dumps(policy_of(bucket)).encode())
            self._call("PUT", "add-user", bucket, {"accessKey": made.access_key}, user)
            self._members(bucket, [made.access_key], leave=False)
            self._call("PUT", "set-user-or-group-policy", bucket, granted)
        return made

    def end(self, bucket: str) -> None:
        with said_plainly(bucket):
            found = self._call("GET", "group", bucket, {"group": bucket})
            if found is not None:
                for name in json.loads(found).get("members") or ():
                    self._call("DELETE", "remove-user", bucket, {"accessKey": name})
                self._members(bucket, [], leave=True)
            self._call("DELETE", "remove-canned-policy", bucket, {"name": bucket})

    def _members(self, group: str, members: list[str], *, leave: bool) -> None:
        """To leave without members takes the group away, once it has none."""
        wanted = {"group": group, "members": members, "isRemove": leave, "groupStatus": "enabled"}
        self._call("PUT", "update-group-members", group, {}, json.dumps(wanted).encode())

    def _call(
        self, method: str, action: str, bucket: str, query: Mapping[str, str], content: bytes = b""
    ) -> bytes | None:
        """The answer; None where what it is about is not there, but a PUT needs it. Raises `Fault`, `Unavailable`."""
        url = f"{self._url}/minio/admin/v3/{action}?{urlencode(query)}"
        answer = signed_call(self._platform, method, url, content)
        if answer.status_code == NOT_FOUND and method != "PUT":
            return None
        if answer.status_code >= 400:
            raise refused(bucket, answer.status_code, code_in(answer.content))
        return answer.content


def signed_call(key: ObjectKey, method: str, url: str, content: bytes) -> AWSResponse:
    """One call under AWS Signature Version 4. Raises botocore's errors."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from botocore.httpsession import URLLib3Session

    request = AWSRequest(method, url, data=content)
    S3SigV4Auth(Credentials(key.access_key, key.secret_key), "s3", REGION).add_auth(request)
    session = URLLib3Session(timeout=READ_TIMEOUT_S)
    try:
        return session.send(request.prepare())
    finally:
        session.close()


def code_in(content: bytes) -> str:
    """MinIO's own word for what failed, or an empty text."""
    try:
        told = json.loads(content)
    except ValueError:
        return ""
    return str(told.get("Code", ""))[:100] if isinstance(told, dict) else ""


def sealed(password: str, text: str) -> bytes:
    """What MinIO wants encrypted under the caller's secret (madmin-go, encrypt.go): salt, cipher, nonce, one sio frame.

    Cipher 2 is AES-256-GCM under a key by PBKDF2-HMAC-SHA-256, of 8192 rounds. A frame has at most 16 KiB; the last is
    sealed with 0x80 before the tag of the empty text that is frame 0.
    """
    import hashlib

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(8)
    cipher = AESGCM(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 8192))
    first = cipher.encrypt(nonce + (0).to_bytes(4, "little"), b"", b"")
    frame = cipher.encrypt(nonce + (1).to_bytes(4, "little"), text.encode(), b"\x80" + first)
    return salt + b"\x02" + nonce + frame
