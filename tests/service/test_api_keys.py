import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api_keys import (
    Allowance,
    ApiKey,
    KeyRing,
    checked_tenant,
    digest_of,
    is_intact,
    new_key_id,
    new_key_text,
)
from service.errors import InvalidRequest
from service.queue.key_table import key_from_json, key_to_json

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def key_of(text: str, **members: object) -> ApiKey:
    record = {"id": "key_a", "tenant": "acme", "digest": digest_of(text), "created_at_ms": 1}
    return ApiKey(**{**record, **members})  # type: ignore[arg-type]


def test_a_key_has_the_form_that_scanners_look_for() -> None:
    texts = {new_key_text() for _ in range(200)}
    assert len(texts) == 200
    for text in texts:
        assert re.fullmatch(r"glide_sk_[0-9A-Za-z]{49}", text)
        assert is_intact(text)
    assert re.fullmatch(r"key_[0-9A-Za-z]{12}", new_key_id())


@given(place=st.integers(9, 57), other=st.sampled_from(DIGITS))
def test_a_typo_is_known_by_the_checksum(place: int, other: str) -> None:
    text = new_key_text()
    mistyped = text[:place] + other + text[place + 1 :]
    assert is_intact(mistyped) == (mistyped == text)


@pytest.mark.parametrize("damage", [str.lower, lambda text: text[:-1], lambda text: text + "0"])
def test_a_damaged_key_is_not_intact(damage: object) -> None:
    assert callable(damage)
    assert not is_intact(damage(new_key_text()))
    assert not is_intact("")
    assert not is_intact("sk-proj-0123456789")


def test_a_key_is_found_by_its_text_alone() -> None:
    text, other = new_key_text(), new_key_text()
    key = key_of(text)
    ring = KeyRing([key])
    assert ring.find(text, 0) == key
    assert ring.find(other, 0) is None
    assert text not in repr(key)


def test_a_revoked_key_is_not_found_and_still_closes_the_ring() -> None:
    text = new_key_text()
    ring = KeyRing([key_of(text, revoked_at_ms=5)])
    assert ring.find(text, 9) is None
    assert not ring.is_empty
    assert KeyRing().is_empty


def test_a_former_text_counts_until_its_time_is_over() -> None:
    old, new = new_key_text(), new_key_text()
    key = key_of(new, previous_digest=digest_of(old), previous_until_ms=100)
    ring = KeyRing([key])
    assert [ring.find(text, 99) for text in (old, new)] == [key, key]
    assert [ring.find(text, 100) for text in (old, new)] == [None, key]


@pytest.mark.parametrize(
    ("text", "count", "window_s", "shown"),
    [
        ("60/m", 60, 60, "60/m"),
        ("60/min", 60, 60, "60/m"),
        ("10/s", 10, 1, "10/s"),
        ("5/hour", 5, 3600, "5/h"),
        (" 1000 / D ", 1000, 86_400, "1000/d"),
    ],
)
def test_an_allowance_is_a_number_for_a_time(
    text: str, count: int, window_s: int, shown: str
) -> None:
    allowance = Allowance.parse(text)
    assert (allowance.count, allowance.window_s, str(allowance)) == (count, window_s, shown)
    assert Allowance.parse(shown) == allowance


@pytest.mark.parametrize(
    "text", ["", "60", "60/", "/m", "60/fortnight", "-1/m", "0/m", "9999999999/s"]
)
def test_no_allowance_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Allowance.parse(text)
    assert repr(text) in caught.value.detail


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "-a", "é", "x" * 65, "a\n"])
def test_a_name_that_no_tenant_may_have(name: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_tenant(name)
    assert checked_tenant("acme-2.test_X") == "acme-2.test_X"


def test_a_stored_key_comes_back_and_unknown_members_are_dropped() -> None:
    key = key_of(new_key_text(), rate=Allowance(60, 60), name="ci")
    assert key_from_json(key_to_json(key)) == key
    later = key_to_json(key).replace("{", '{"scopes": [], ', 1)
    assert key_from_json(later) == key
