import sys
from pathlib import Path

import pytest

from service.errors import InvalidRequest, PromptRejected
from service.policy import PhraseList, Policy, load_image_check, load_policy, words_of
from service.settings import PolicySettings


def policy(tmp_path: Path, *, deny: str | None = None, allow: str | None = None) -> Policy:
    given = {"deny": deny, "allow": allow}
    paths = {name: tmp_path / name for name, text in given.items() if text is not None}
    for name, path in paths.items():
        path.write_text(given[name] or "", encoding="utf-8")
    return load_policy(PolicySettings(**paths))


def is_refused(policy: Policy, *captions: str | None) -> bool:
    try:
        policy.check(*captions)
    except PromptRejected:
        return True
    return False


DENY = """\
# a remark
red apple

Straße
赤い猫
cat
ﬁsh & chips
🍆
"""


@pytest.mark.parametrize(
    "caption",
    [
        "a red apple",
        "a RED\n  Apple!",
        "a red-apple, on the grass",
        "a red_apple",
        "red, apple",
        "re\u200bd ap\u00adple",
        "r\ufe0fed apple",
        "ｒｅｄ ａｐｐｌｅ",
        "the STRASSE at night",
        "夜の赤い猫です",
        "fish chips",
        "look: 🍆\ufe0f!",
        "a cat",
        "(cat:1.2)",
        "red red apple",
    ],
)
def test_a_denied_phrase_is_found_however_it_is_spelled(caption: str, tmp_path: Path) -> None:
    denying = policy(tmp_path, deny=DENY)
    assert is_refused(denying, caption)
    assert is_refused(denying, "a dog", caption)


@pytest.mark.parametrize(
    "caption",
    ["", "an apple, red", "concatenate", "cats", "apple red", "a remark", "赤い犬", "red"],
)
def test_only_whole_phrases_are_refused(caption: str, tmp_path: Path) -> None:
    assert not is_refused(policy(tmp_path, deny=DENY), caption, None)


def test_a_caption_needs_one_allowed_phrase(tmp_path: Path) -> None:
    allowing = policy(tmp_path, allow="apple\nred house\n", deny="green apple")
    assert not is_refused(allowing, "an apple", None)
    assert not is_refused(allowing, "an apple", "")
    assert not is_refused(allowing, "", "a red house")
    assert is_refused(allowing, "a house")
    assert is_refused(allowing, "an apple", "blur")
    assert is_refused(allowing, "a green apple")


def test_the_refusal_does_not_say_which_phrase_decided(tmp_path: Path) -> None:
    with pytest.raises(PromptRejected) as refused:
        policy(tmp_path, deny="apple").check("a red apple")
    assert "apple" not in refused.value.detail


def test_without_lists_everything_may_be_drawn() -> None:
    assert not is_refused(load_policy(PolicySettings()), "anything", "at all")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00", "not a text in UTF-8"),
        (b"cat\n!!!\n", "line 2, has no word"),
        (b"# only a remark\n", "no phrase"),
        (b"", "no phrase"),
        (None, "can't be read"),
    ],
)
def test_a_list_that_is_none_stops_the_start_with_a_sentence(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "allow.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=reason) as error:
        load_policy(PolicySettings(allow=path))
    assert str(path) in error.value.detail


def test_phrases_inside_and_across_each_other_are_all_found() -> None:
    found = PhraseList([["a", "b", "c", "d"], ["b", "c"], ["c", "x"], ["d", "d", "e"]])
    assert found.found_in("a b c")
    assert found.found_in("a b c x")
    assert found.found_in("c x")
    assert found.found_in("d d d e")
    assert not found.found_in("a b d c")
    assert not found.found_in("d e")


class CountedList(PhraseList):
    """Counts how often the automaton falls back or moves on."""

    steps = 0

    def _step(self, state: int, word: str) -> int:
        self.steps += 1
        return super()._step(state, word)


def test_each_word_of_a_caption_is_looked_at_once_however_many_phrases_there_are() -> None:
    phrases = [["a"] * length + [f"end{length}"] for length in range(1, 101)]
    phrases += [[f"word{number}", "x"] for number in range(10_000)]
    matcher = CountedList(phrases)
    matcher.steps = 0
    assert not matcher.found_in("a " * 16_000)
    assert matcher.steps == 16_000


def test_marks_stay_with_their_letters_and_unseen_characters_go() -> None:
    assert words_of("n\u0308a\u0308h हिन्दी") == ["n\u0308äh", "हिन्दी"]
    assert words_of("x\u2060y\u034fz") == ["xyz"]


@pytest.mark.parametrize(
    "name", ["nowhere_at_all:check", "json:nothing", "json", "json:__name__", "", ":", "a b:c"]
)
def test_a_check_that_cannot_be_imported_stops_the_start_with_a_sentence(name: str) -> None:
    with pytest.raises(InvalidRequest, match="GLIDE_POLICY__IMAGE_CHECK"):
        load_image_check(name)


def test_a_check_whose_module_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_check.py").write_text("raise OSError('no model file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidRequest, match=r"failing_check.*no model file"):
        load_image_check("failing_check:check")
    assert "failing_check" not in sys.modules


def test_no_check_is_none() -> None:
    assert load_image_check(None) is None
