import pytest
from starlette.requests import Request

from service.api.preferences import Preferences, preferences, wanted_image


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("prefer", "understood"),
    [
        ("wait=5", Preferences("5")),
        ('WAIT = "5"', Preferences("5")),
        ("wait", Preferences("")),
        ("wait=5, wait=9", Preferences("5")),
        ("respond-async", Preferences(None, True)),
        ("respond-async, wait=10; strict, handling=lenient", Preferences("10", True)),
        ("return=minimal", Preferences()),
        ("wait=soon", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait=١", Preferences()),
        ("wait=" + "9" * 400, Preferences()),
        (";;=", Preferences()),
        ("", Preferences()),
    ],
)
def test_what_is_preferred_is_understood_or_passed_over(
    prefer: str, understood: Preferences
) -> None:
    assert preferences(request(("Prefer", prefer.encode().decode("latin-1")))) == understood


def test_preferences_come_in_several_headers() -> None:
    asked = request(("Prefer", "respond-async"), ("Prefer", "wait=3"))
    assert preferences(asked) == Preferences("3", True)
    assert preferences(request()) == Preferences()


def test_a_wait_is_bounded() -> None:
    assert Preferences("5").wait_s(55) == 5
    assert Preferences("500").wait_s(55) == 55
    assert Preferences("").wait_s(55) == 55
    assert Preferences(None, True).wait_s(55) == 0


def test_only_what_was_heeded_is_said_to_be() -> None:
    assert Preferences().applied(finished=True) == {}
    asked = Preferences("5", True)
    assert asked.applied(finished=True) == {"Preference-Applied": "wait=5"}
    assert asked.applied(finished=False) == {"Preference-Applied": "wait=5, respond-async"}


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("image/png", "png"),
        ("IMAGE/WEBP", "webp"),
        ("image/*", "png"),
        ("image/*, image/png;q=0.5", "jpeg"),
        ("image/webp;q=0.8, image/jpeg;q=0.9", "jpeg"),
        ("image/png, */*;q=0.1", "png"),
        ("application/json;q=0.5, image/webp", "webp"),
        ("application/json, image/png", None),
        ("application/*, image/png;q=0.9", None),
        ("image/png;q=0", None),
        ("image/png;q=high", None),
        ("*/*", None),
        ("text/html", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_an_image_is_sent_to_whoever_would_rather_have_one(accept: str, wanted: str | None) -> None:
    assert wanted_image(request(("Accept", accept))) == wanted


def test_without_accept_the_answer_is_json() -> None:
    assert wanted_image(request()) is None
