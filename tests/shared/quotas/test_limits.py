"""Which limits concern a call, asked again and again."""

from __future__ import annotations

from shared.quotas.limits import FOUND_MAX, Limits, Quota

TENANT = Quota(1, "tenant", "", "requests", "ever", 10, True)
KEY = Quota(2, "key", "k1", "requests", "ever", 10, True)
TAG = Quota(3, "tag", "blue", "requests", "ever", 10, True)
MODEL = Quota(4, "model", "gpt", "requests", "ever", 10, True)
LIMITS = Limits((TENANT, KEY, TAG, MODEL))


def test_calls_that_differ_in_anything_are_told_apart_each_time() -> None:
    for _ in range(2):
        assert LIMITS.concerning("k1", (), "other") == (TENANT, KEY)
        assert LIMITS.concerning("k2", ("blue",), "other") == (TENANT, TAG)
        assert LIMITS.concerning("k2", (), "gpt") == (TENANT, MODEL)
        assert LIMITS.concerning(None, (), "other") == (TENANT,)
        assert LIMITS.concerning("k1", ("blue",), "doc-chat/gpt") == ()


def test_what_is_remembered_is_bounded() -> None:
    limits = Limits((TENANT,))
    for number in range(FOUND_MAX + 50):
        assert limits.concerning(f"k{number}", (), "m") == (TENANT,)
    assert len(limits._found) == FOUND_MAX
