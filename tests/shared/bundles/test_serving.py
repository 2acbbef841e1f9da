"""Which revision gets a call, and by which of its routes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bundles.serving import Target, chosen, route_of
from shared.errors import MethodNotAllowed, NotFound
from tests.shared.bundles.rates import manifest

SHARES = st.lists(st.integers(1, 100), min_size=1, max_size=5)


def targets(*percents: int) -> list[Target]:
    return [Target(number, percent, "http://a", manifest()) for number, percent in enumerate(percents, start=1)]


@given(SHARES)
def test_each_revision_gets_its_share_of_evenly_spread_chances(percents: list[int]) -> None:
    total = sum(percents)
    got = Counter(chosen(targets(*percents), (point + 0.5) / total).revision for point in range(total))
    assert got == dict(enumerate(percents, start=1))


@given(SHARES, st.floats(0, 1, exclude_max=True))
def test_some_revision_gets_every_call(percents: list[int], at: float) -> None:
    assert chosen(targets(*percents), at) in targets(*percents)


def test_without_revisions_there_is_no_such_function() -> None:
    with pytest.raises(NotFound):
        chosen([], 0.5)


def test_a_call_is_let_in_by_the_route_that_it_is_of() -> None:
    assert route_of(manifest(), "GET", "/v1/own/rates/usd").permission == "documents:read"
    with pytest.raises(MethodNotAllowed, match="GET is"):
        route_of(manifest(), "POST", "/v1/own/rates/usd")


@pytest.mark.parametrize("path", ["/v1/own/rates", "/v1/own/rates/", "/v1/own/rates/a/b", "/v1/own/rates/usd\n/x", "/"])
def test_a_path_of_no_route_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        route_of(manifest(), "GET", path)
