"""What is said of a scene: a small English grammar with paraphrases, and its closed word list.

A caption is lower-case words with single spaces and no punctuation. Of each list of wordings the
first is the plain one, used half of the time, and the last is never used in training: it words
known words anew, for the test of paraphrases. Knows scenes; nothing of pixels or tokens.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.scenes.layout import Scene, Thing, relation
from model.scenes.lexicon import (
    COLOURS,
    NATURAL_COLOURS,
    NUMBERS,
    PLACES,
    Kind,
    Relation,
    Vocabulary,
    family,
    plural,
)

PLAIN_SHARE = 0.5

# {a} and {b} are the objects, {r} the relation of a to b, {background} may be empty.
TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "one": (
        "{a} {background}",
        "there is {a} {background}",
        "a picture of {a} {background}",
        "an image of {a} {background}",
        "there is a picture of {a} {background}",
    ),
    "many": (
        "{a} {background}",
        "there are {a} {background}",
        "a picture of {a} {background}",
        "a group of {a} {background}",
        "a picture of a group of {a} {background}",
    ),
    "relation": (
        "{a} {r} {b} {background}",
        "there is {a} {r} {b} {background}",
        "a picture of {a} {r} {b} {background}",
        "an image of {a} {r} {b} {background}",
        "{r} {b} there is {a} {background}",
    ),
    "and": (
        "{a} and {b} {background}",
        "there is {a} and {b} {background}",
        "a picture of {a} and {b} {background}",
        "{a} with {b} {background}",
        "there is {a} with {b} {background}",
    ),
}
BACKDROPS = (
    "on {} background",
    "with {} background",
    "against {} backdrop",
    "against {} background",
)
RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
}
STYLES: dict[str, tuple[str, ...]] = {
    "pixel": ("pixel art of {}", "{} as pixel art"),
    "mono": ("a black and white photo of {}", "{} in black and white"),
    "sketch": ("a pencil sketch of {}", "{} as a pencil drawing"),
}
_COLOURLESS_STYLES = ("mono", "sketch")


def caption(scene: Scene, variant: int = 0, held: bool = False) -> str:
    """Words for a scene; the same arguments give the same words in every process.

    Args:
        scene: what to describe.
        variant: picks among the paraphrases.
        held: use only wordings that training never uses, and state the background.
    """
    rng = random.Random(f"caption:{scene.seed}:{variant}")
    return _Wording(scene, rng, held).sentence()


def words(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Every word that a caption of the vocabulary can contain, sorted."""
    blank = {"a": "", "b": "", "r": "", "background": ""}
    texts = [text.format(**blank) for kind in vocabulary.kinds for text in TEMPLATES[kind]]
    texts += [*vocabulary.nouns, *vocabulary.colours, *vocabulary.sizes, "a", "an"]
    texts += _background_texts(vocabulary)
    texts += [wording.format("") for style in vocabulary.styles for wording in STYLES[style]]
    sprites = (sprite for noun in vocabulary.nouns for sprite in vocabulary.sprites[noun])
    texts += [NATURAL_COLOURS.get(sprite, "") for sprite in sprites]
    if "relation" in vocabulary.kinds:
        texts += [phrase for phrases in RELATIONS.values() for phrase in phrases]
    names = list(vocabulary.nouns)
    if vocabulary.family_rate:
        names += [family(noun) for noun in vocabulary.nouns]
        texts += names
    if "many" in vocabulary.kinds:
        texts += [plural(name) for name in names]
        texts += [form for count in (2, 3, 4) for form in (NUMBERS[count], str(count))]
    return tuple(sorted({word for text in texts for word in text.split()}))


def _background_texts(vocabulary: Vocabulary) -> Iterator[str]:
    for background in vocabulary.backgrounds:
        if background in PLACES:
            yield from PLACES[background].phrases
        else:
            yield background
            yield from (wording.format("") for wording in BACKDROPS)


@dataclass(frozen=True, slots=True)
class _Wording:
    """The choice of one sentence for a scene."""

    scene: Scene
    rng: random.Random
    held: bool

    def sentence(self) -> str:
        scene = self.scene
        slots = {"background": self._background(), "a": self._object(scene.things[0])}
        if scene.kind in ("relation", "and"):
            slots["b"] = self._object(scene.things[1])
            slots["r"] = self._plainest(RELATIONS[relation(*scene.things)])
        templates = TEMPLATES[scene.kind]
        if scene.style == "plain":
            return self._pick(templates).format(**slots).strip()
        described = templates[0].format(**slots).strip()
        return self.rng.choice(STYLES[scene.style]).format(described)

    def _pick(self, options: Sequence[str]) -> str:
        return options[-1] if self.held else self._plainest(options[:-1])

    def _plainest(self, options: Sequence[str]) -> str:
        plain = self.rng.random() < PLAIN_SHARE
        return options[0] if plain else self.rng.choice(options)

    def _background(self) -> str:
        scene = self.scene
        stated = self.held or self.rng.random() < scene.vocabulary.background_rate
        if scene.style in _COLOURLESS_STYLES and scene.background in COLOURS:
            return ""
        if not stated:
            return ""
        if scene.background in PLACES:
            return self._plainest(PLACES[scene.background].phrases)
        return self._pick(BACKDROPS).format(_with_article(scene.background))

    def _object(self, thing: Thing) -> str:
        count = len(self.scene.things) if self.scene.kind == "many" else 1
        noun = thing.noun
        if self.rng.random() < self._family_rate():
            noun = family(noun)
        described = (self.scene.size_word, self._colour(thing))
        words = [word for word in described if word]
        if count == 1:
            return _with_article(" ".join([*words, noun]))
        number = self._plainest((NUMBERS[count], str(count)))
        return " ".join([number, *words, plural(noun)])

    def _family_rate(self) -> float:
        exact = self.held or self.scene.kind == "relation"
        return 0.0 if exact else self.scene.vocabulary.family_rate

    def _colour(self, thing: Thing) -> str:
        if self.scene.style in _COLOURLESS_STYLES:
            return ""
        named = thing.tint or self.rng.random() < self.scene.vocabulary.natural_rate
        return thing.colour if named else ""


def _with_article(words: str) -> str:
    vowel = words[0] in "aeio" or words.startswith("umbrella")
    return f"{'an' if vowel else 'a'} {words}"
