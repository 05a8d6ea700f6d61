"""Splits: what is held out never leaks into training, and every word still occurs there."""

from collections import Counter

import pytest

from model.scenes.layout import available_splits, sample
from model.scenes.lexicon import CORE, FULL, Vocabulary, natural_colour
from model.scenes.splits import Split, held_out, unit_hash

HELD_OUT_SPLITS: tuple[Split, ...] = ("count", "background", "colour", "relation", "pair")
CASES = [
    (split, vocabulary)
    for vocabulary in (CORE, FULL)
    for split in HELD_OUT_SPLITS
    if split in available_splits(vocabulary)
]


def test_twenty_thousand_training_scenes_hold_no_held_out_fact() -> None:
    scenes = [sample(seed, "train", CORE) for seed in range(20_000)]
    facts = Counter(fact for scene in scenes for fact in scene.facts())
    assert not [fact for fact in facts if held_out(fact)]
    for noun in CORE.nouns:
        assert sum(("background", noun, name) in facts for name in CORE.backgrounds) >= 8
        assert sum(("colour", noun, colour) in facts for colour in CORE.colours) >= 4


def test_training_on_the_full_vocabulary_leaks_nothing_either() -> None:
    for seed in range(3000):
        assert not any(held_out(fact) for fact in sample(seed, "train", FULL).facts())


@pytest.mark.parametrize(("split", "vocabulary"), CASES, ids=lambda v: getattr(v, "name", v))
def test_a_split_holds_out_its_own_kind_of_fact_and_no_other(
    split: Split, vocabulary: Vocabulary
) -> None:
    for seed in range(200):
        facts = sample(seed, split, vocabulary).facts()
        assert {fact[0] for fact in facts if held_out(fact)} == {split}


def test_validation_shows_only_what_training_shows() -> None:
    for seed in range(2000):
        assert not any(held_out(fact) for fact in sample(seed, "val", CORE).facts())


def test_the_share_held_out_is_near_a_tenth() -> None:
    backgrounds = [("background", n, name) for n in FULL.nouns for name in FULL.backgrounds]
    relations = [
        ("relation", a, r, b)
        for a in FULL.nouns[:60]
        for b in FULL.nouns[60:]
        for r in ("left", "right", "above", "below")
    ]
    for facts in (backgrounds, relations):
        share = sum(held_out(fact) for fact in facts) / len(facts)
        assert share == pytest.approx(0.1, abs=0.015)


def test_at_most_one_count_of_a_noun_is_held_out() -> None:
    held = [sum(held_out(("count", noun, n)) for n in (2, 3, 4)) for noun in FULL.nouns]
    assert set(held) == {0, 1}
    assert not any(held_out(("count", noun, 1)) for noun in FULL.nouns)


def test_natural_colours_and_sizes_are_never_held_out() -> None:
    natural = [(n, c) for n in FULL.nouns for c in FULL.colours if natural_colour(n, c)]
    assert ("apple", "red") in natural
    assert not any(held_out(("colour", *pair)) for pair in natural)
    sizes = ("small", "medium", "big")
    assert not any(held_out(("size", noun, s)) for noun in FULL.nouns for s in sizes)


def test_the_demo_is_a_composition_that_training_shows() -> None:
    assert not any(
        held_out(fact)
        for fact in (
            ("pair", "apple", "cat"),
            ("relation", "apple", "left", "cat"),
            ("background", "apple", "grass"),
            ("background", "cat", "grass"),
            ("colour", "apple", "red"),
        )
    )


def test_the_hash_is_the_one_that_trained_weights_rely_on() -> None:
    assert unit_hash("pair", "cat", "dog") == 0.39765657732156967
    held = [name for name in CORE.backgrounds if held_out(("background", "cat", name))]
    assert held == ["pink", "black"]
