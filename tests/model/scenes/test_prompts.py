"""The captions of the sample sheet stay what they were before anything was trained."""

from collections import Counter

from model.scenes.captions import words
from model.scenes.layout import sample
from model.scenes.lexicon import CORE
from model.scenes.prompts import draw_sheet, load_sheet
from model.scenes.splits import held_out


def test_the_file_holds_exactly_what_its_seeds_draw() -> None:
    assert load_sheet() == draw_sheet()


def test_half_of_the_sheet_is_held_out_from_training() -> None:
    sheet = load_sheet()
    assert [prompt.seed for prompt in sheet] == list(range(32))
    assert len({prompt.caption for prompt in sheet}) == 32
    splits = Counter(prompt.split for prompt in sheet)
    assert splits == {"val": 16, "background": 4, "colour": 4, "relation": 4, "pair": 4}
    for prompt in sheet:
        facts = sample(prompt.seed, prompt.split, CORE).facts()
        assert any(held_out(fact) for fact in facts) == (prompt.split != "val")


def test_the_sheet_says_only_known_words() -> None:
    known = set(words(CORE))
    for prompt in load_sheet():
        assert set(prompt.caption.split()) <= known
