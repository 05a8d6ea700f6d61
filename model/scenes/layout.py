"""What is in a scene and where: the layout, its checkable facts, and how layouts are drawn.

Nothing here is worded or painted: `captions` and `renderer` do that from the same `Scene`.
"""

import random
from dataclasses import dataclass, field

from model.scenes.lexicon import COLOURS, NATURAL_COLOURS, PLACES, Kind, Relation, Vocabulary
from model.scenes.splits import SPLITS, Fact, Split, belongs

ANGLES = tuple(range(-8, 9, 2))  # few enough that turned sprites can be kept

_PLACING_ATTEMPTS = 40
_LEAST_OFFSET = 0.3  # between the centres of two objects, along the axis that names the relation
_LARGEST_SLANT = 0.6  # of the other axis, relative to that one
_NEEDED_KIND: dict[Split, Kind] = {"count": "many", "relation": "relation", "pair": "relation"}


@dataclass(frozen=True, slots=True)
class Thing:
    """One object; lengths are fractions of the image's side, x to the right and y downward.

    Attributes:
        noun: what it is.
        sprite: the emoji it is drawn with.
        tint: colour it is painted over with; "" for the sprite's own colours.
        x: centre.
        y: centre.
        size: longest side.
        flip: whether it is mirrored.
        angle: rotation, degrees counterclockwise; one of `ANGLES`.
    """

    noun: str
    sprite: str
    tint: str
    x: float
    y: float
    size: float
    flip: bool
    angle: int

    @property
    def colour(self) -> str:
        """The colour it may be called by: its tint, else its natural colour, else ""."""
        return self.tint or NATURAL_COLOURS.get(self.sprite, "")


@dataclass(frozen=True, slots=True)
class Scene:
    """A layout: enough to render it, to caption it and to check a picture against it.

    Attributes:
        kind: `one` object, `many` of a noun, two in a `relation`, or two named with `and`.
        things: the objects, in the order in which captions name them.
        background: a colour or a place.
        size_word: the size that captions state; "" for none.
        style: `plain` or one of the vocabulary's styles.
        seed: the seed it was drawn with.
        vocabulary: the words it was drawn from.
    """

    kind: Kind
    things: tuple[Thing, ...]
    background: str
    size_word: str
    style: str
    seed: int
    vocabulary: Vocabulary = field(repr=False, compare=False)

    def facts(self) -> tuple[Fact, ...]:
        """Everything checkable: (name, noun, value), or (relation, noun, which, noun).

        A relation is canonical: its nouns are in alphabetical order.
        """
        nouns = sorted({thing.noun for thing in self.things})
        facts: list[Fact] = []
        for noun in nouns:
            same = [thing for thing in self.things if thing.noun == noun]
            facts += [("count", noun, len(same)), ("background", noun, self.background)]
            facts += [("colour", noun, same[0].colour)] if same[0].colour else []
            facts += [("size", noun, self.size_word)] if self.size_word else []
        if len(nouns) == 2:
            first, second = sorted(self.things, key=lambda thing: thing.noun)
            facts.append(("pair", *nouns))
            facts.append(("relation", first.noun, relation(first, second), second.noun))
        return tuple(facts)


def relation(thing: Thing, other: Thing) -> Relation:
    """Where `thing` is, seen from `other`: along the axis on which they differ most."""
    right, down = thing.x - other.x, thing.y - other.y
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "below" if down > 0 else "above"


def available_splits(vocabulary: Vocabulary) -> tuple[Split, ...]:
    """The splits that a vocabulary has scenes for."""
    return tuple(split for split in SPLITS if _NEEDED_KIND.get(split, "one") in vocabulary.kinds)


def sample(seed: int, split: Split, vocabulary: Vocabulary) -> Scene:
    """Draws the scene of a seed.

    Training has a stream of its own; the other splits share no scene with it. The same arguments
    give the same scene in every process.

    Raises:
        ValueError: the vocabulary has no scenes for the split.
    """
    if split not in available_splits(vocabulary):
        raise ValueError(f"the vocabulary {vocabulary.name} has no scenes for the split {split}")
    stream = "train" if split == "train" else "test"
    rng = random.Random(f"{stream}:{split}:{seed}")
    kinds = vocabulary.kinds
    # Drawn once: a kind that is refused more often must not become rarer for it.
    kind = _NEEDED_KIND.get(split) or rng.choices(tuple(kinds), tuple(kinds.values()))[0]
    while True:
        scene = _Draw(rng, vocabulary, split, kind).scene(seed)
        if scene is not None and belongs(scene.facts(), split):
            return scene


@dataclass(frozen=True, slots=True)
class _Draw:
    """One attempt at a scene."""

    rng: random.Random
    vocabulary: Vocabulary
    split: Split
    kind: Kind

    def scene(self, seed: int) -> Scene | None:
        """A scene, or None where the objects found no room or can't be told from the background."""
        kind = self.kind
        background = self.rng.choice(self.vocabulary.backgrounds)
        size_word, low, high = self._size(kind)
        looks = self._looks(kind, background)
        things: list[Thing] = []
        for look in looks:
            thing = self._place(look, low, high, things, central=kind == "one")
            if thing is None:
                return None
            things.append(thing)
        if not things or (kind in ("relation", "and") and not _is_clear(*things)):
            return None
        style = self._style(things)
        return Scene(kind, tuple(things), background, size_word, style, seed, self.vocabulary)

    def _size(self, kind: Kind) -> tuple[str, float, float]:
        if kind == "many":
            return "", *self.vocabulary.group_size
        if kind != "one":
            return "", *self.vocabulary.pair_size
        sizes = self.vocabulary.sizes
        weights = [band.weight for band in sizes.values()]
        word = self.rng.choices(tuple(sizes), weights)[0]
        return word, sizes[word].low, sizes[word].high

    def _looks(self, kind: Kind, background: str) -> list[tuple[str, str, str]]:
        """(noun, sprite, tint) of every object, or nothing where one would be lost to sight."""
        hidden = {background, PLACES[background].hides if background in PLACES else ""}
        count = self.rng.randint(2, 4) if kind == "many" else 1
        nouns = self.rng.sample(self.vocabulary.nouns, 1 if kind in ("one", "many") else 2)
        looks: list[tuple[str, str, str]] = []
        for noun in nouns:
            sprite = self.rng.choice(self.vocabulary.sprites[noun])
            natural = NATURAL_COLOURS.get(sprite, "")
            tint = ""
            if self.split == "colour" or self.rng.random() < self.vocabulary.tint_rate:
                taken = {*hidden, natural, *(other for _, _, other in looks)}
                tint = self.rng.choice([c for c in self.vocabulary.colours if c not in taken])
            elif natural in hidden and natural in COLOURS:
                return []
            looks += [(noun, sprite, tint)] * count
        return looks

    def _place(
        self,
        look: tuple[str, str, str],
        low: float,
        high: float,
        others: list[Thing],
        *,
        central: bool,
    ) -> Thing | None:
        rng = self.rng
        for _ in range(_PLACING_ATTEMPTS):
            size = rng.uniform(low, high)
            x, y = (rng.uniform(size / 2, 1 - size / 2) for _ in "xy")
            if central:
                x, y = (x + 0.5) / 2, (y + 0.5) / 2
            room = (max(abs(x - o.x), abs(y - o.y)) - 0.48 * (size + o.size) for o in others)
            if all(gap > 0 for gap in room):
                return Thing(*look, x, y, size, rng.random() < 0.5, rng.choice(ANGLES))
        return None

    def _style(self, things: list[Thing]) -> str:
        plain = any(thing.tint for thing in things) or self.split not in ("train", "val", "any")
        if plain or self.rng.random() >= self.vocabulary.style_rate:
            return "plain"
        return self.rng.choice(self.vocabulary.styles)


def _is_clear(first: Thing, second: Thing) -> bool:
    """Whether one axis names the relation of two objects by a margin."""
    offsets = sorted((abs(first.x - second.x), abs(first.y - second.y)))
    return offsets[1] >= _LEAST_OFFSET and offsets[0] <= _LARGEST_SLANT * offsets[1]
