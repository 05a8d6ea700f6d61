"""Captions: grammatical, true to the facts, and closed under the word list."""

import pytest

from model.scenes.captions import RELATIONS, caption, words
from model.scenes.layout import Scene, Thing, relation, sample
from model.scenes.lexicon import CORE, FULL, PLACES, Vocabulary, family, plural

DEMO = "a red apple to the left of a cat on the grass"
BOTH = pytest.mark.parametrize("vocabulary", [CORE, FULL], ids=lambda v: v.name)


def apple(tint: str = "", x: float = 0.25) -> Thing:
    return Thing("apple", "🍎", tint, x, 0.5, 0.4, flip=False, angle=0)


def variants(scene: Scene, count: int = 300) -> list[str]:
    return [caption(scene, variant) for variant in range(count)]


@BOTH
def test_no_caption_leaves_the_word_list(vocabulary: Vocabulary) -> None:
    known = set(words(vocabulary))
    for seed in range(3000):
        scene = sample(seed, "any", vocabulary)
        for text in (caption(scene, 1), caption(scene, 1, held=True)):
            assert set(text.split()) <= known
            assert text == " ".join(text.split()).lower()
            assert text.replace(" ", "").isalnum()


def test_the_word_list_is_sorted_and_training_uses_all_of_it() -> None:
    listed = words(CORE)
    assert list(listed) == sorted(set(listed))
    trained = (caption(sample(seed, "train", CORE)) for seed in range(4000))
    assert {word for text in trained for word in text.split()} == set(listed)


@BOTH
def test_held_out_wordings_say_known_words_anew(vocabulary: Vocabulary) -> None:
    scenes = [sample(seed, "train", vocabulary) for seed in range(1500)]
    plain = [scene for scene in scenes if scene.style == "plain"]
    trained = {caption(scene, variant) for scene in plain for variant in range(4)}
    known = set(words(vocabulary))
    for scene in plain:
        text = caption(scene, held=True)
        assert text not in trained
        assert set(text.split()) <= known


def test_the_demo_caption_has_no_unknown_word() -> None:
    assert set(DEMO.split()) <= set(words(CORE))


def test_the_grammar_says_the_demo_caption_in_so_many_words() -> None:
    cat = Thing("cat", "🐱", "", 0.75, 0.5, 0.4, flip=False, angle=0)
    scene = Scene("relation", (apple(), cat), "grass", "", "plain", 0, CORE)
    assert DEMO in variants(scene)


def test_a_tint_is_always_named_and_a_natural_colour_sometimes() -> None:
    tinted = variants(Scene("one", (apple("blue"),), "white", "", "plain", 0, CORE))
    assert all("a blue apple" in text for text in tinted)
    natural = variants(Scene("one", (apple(),), "white", "", "plain", 0, CORE))
    named = sum("a red apple" in text for text in natural)
    assert named / len(natural) == pytest.approx(CORE.natural_rate, abs=0.1)
    assert sum("an apple" in text for text in natural) + named == len(natural)


def test_size_and_relation_are_always_stated() -> None:
    for seed in range(1000):
        scene = sample(seed, "train", CORE)
        text = caption(scene)
        assert scene.size_word in text
        if scene.kind == "relation":
            phrases = RELATIONS[relation(*scene.things)]
            first, second = (text.index(thing.noun) for thing in scene.things)
            assert any(phrase in text[first:second] for phrase in phrases)


def test_held_out_wording_of_a_relation_keeps_its_direction() -> None:
    cat = Thing("cat", "🐱", "", 0.75, 0.5, 0.4, flip=False, angle=0)
    scene = Scene("relation", (apple("blue"), cat), "red", "", "plain", 0, CORE)
    wordings = {caption(scene, variant, held=True) for variant in range(50)}
    assert "to the left of a cat there is a blue apple against a red background" in wordings


def test_the_background_is_stated_as_often_as_the_vocabulary_says() -> None:
    scenes = [sample(seed, "train", CORE) for seed in range(2000)]
    stated = 0
    for scene in scenes:
        text = caption(scene)
        place = PLACES[scene.background].phrases if scene.background in PLACES else ()
        colour = (f"{scene.background} background", f"{scene.background} backdrop")
        stated += text.endswith((*place, *colour))
    assert stated / len(scenes) == pytest.approx(CORE.background_rate, abs=0.03)


def test_articles_follow_the_sound_of_the_next_word() -> None:
    unicorn = Thing("unicorn", "🦄", "", 0.5, 0.5, 0.5, flip=False, angle=0)
    umbrella = Thing("umbrella", "☂", "", 0.5, 0.5, 0.5, flip=False, angle=0)
    orange = Scene("one", (unicorn,), "orange", "", "plain", 0, FULL)
    assert any("a unicorn on an orange background" in text for text in variants(orange))
    assert all("an unicorn" not in text for text in variants(orange))
    rainy = Scene("one", (umbrella,), "red", "", "plain", 0, FULL)
    assert any("an umbrella" in text for text in variants(rainy))


def test_a_group_is_counted_in_the_plural() -> None:
    group = tuple(apple(x=x) for x in (0.2, 0.5, 0.8))
    texts = variants(Scene("many", group, "blue", "", "plain", 0, FULL))
    assert any("three apples" in text for text in texts)
    assert any("3 red apples" in text for text in texts)
    assert any(f"three {plural(family('apple'))}" in text for text in texts)


@pytest.mark.parametrize(
    ("noun", "several"),
    [
        *(("cat", "cats"), ("fox", "foxes"), ("butterfly", "butterflies"), ("key", "keys")),
        *(("mouse", "mice"), ("sheep", "sheep"), ("tomato", "tomatoes"), ("banjo", "banjos")),
    ],
)
def test_plurals(noun: str, several: str) -> None:
    assert plural(noun) == several


def test_styles_are_named_and_colourless_ones_claim_no_colour() -> None:
    mono = variants(Scene("one", (apple(),), "white", "", "mono", 0, FULL))
    assert all("black and white" in text for text in mono)
    assert all("background" not in text and "red" not in text for text in mono)
    pixel = variants(Scene("one", (apple(),), "white", "", "pixel", 0, FULL))
    assert all("pixel art" in text for text in pixel)


def test_variants_are_paraphrases_and_each_is_fixed() -> None:
    scene = sample(1, "train", CORE)
    assert len(set(variants(scene))) > 5
    assert caption(scene, 7) == caption(scene, 7)
