"""The words of the scenes and what they mean: colours, places, relations, sizes, vocabularies.

A `Vocabulary` is a subset of the words with the mix that scenes are drawn from. This module knows
nothing of layouts, sentences or pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from model.scenes.nouns import FAMILIES, SPRITES

Kind = Literal["one", "many", "relation", "and"]
Relation = Literal["left", "right", "above", "below"]
Rgb = tuple[int, int, int]

# The eleven basic colour terms (Berlin and Kay 1969).
COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 214, 50),
    "green": (56, 158, 68),
    "blue": (40, 96, 216),
    "purple": (128, 62, 178),
    "pink": (246, 140, 186),
    "brown": (124, 78, 44),
    "black": (28, 28, 32),
    "white": (246, 246, 246),
    "gray": (138, 140, 146),
}

# The colour that a person would call a sprite by. No tint repeats it, so "a red apple" always
# means the apple as it is.
NATURAL_COLOURS: dict[str, str] = {
    sprite: colour
    for colour, sprites in {
        "red": "🍎🍓🍄🚗🍅🌹",
        "orange": "🥕",
        "yellow": "🍌🐤🐥🌻🍋",
        "green": "🐸🌳🌲🍏🥒🐊",
        "blue": "🐟",
        "purple": "🍆",
        "pink": "🐷🐖🦩",
        "brown": "🐻",
    }.items()
    for sprite in sprites
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A background that is a place.

    Attributes:
        phrases: how a caption says it, the plainest first.
        top: colour at the top of the sky.
        bottom: colour at the bottom of the sky.
        ground: colour of the ground, where there is one.
        specks: colour of stars, flakes or bubbles, where there are any.
        flat: whether the ground's edge is straight.
        hides: a colour that can't be told from the place.
    """

    phrases: tuple[str, ...]
    top: Rgb
    bottom: Rgb
    ground: Rgb | None = None
    specks: Rgb | None = None
    flat: bool = False
    hides: str = ""


PLACES: dict[str, Place] = {
    "night": Place(
        phrases=("at night", "in the dark"),
        top=(8, 12, 44),
        bottom=(30, 38, 92),
        ground=(22, 40, 34),
        specks=(250, 246, 210),
        hides="black",
    ),
    "snow": Place(
        phrases=("in the snow", "in winter"),
        top=(170, 200, 226),
        bottom=(222, 234, 244),
        ground=(248, 250, 255),
        specks=(255, 255, 255),
        hides="white",
    ),
    "grass": Place(
        phrases=("on the grass", "in a meadow"),
        top=(120, 190, 246),
        bottom=(206, 232, 250),
        ground=(92, 176, 70),
    ),
    "beach": Place(
        phrases=("on the beach", "at the seaside"),
        top=(96, 186, 240),
        bottom=(40, 130, 190),
        ground=(240, 218, 162),
        flat=True,
    ),
    "underwater": Place(
        phrases=("under water", "in the ocean"),
        top=(30, 130, 190),
        bottom=(8, 52, 116),
        ground=(196, 176, 120),
        specks=(160, 214, 240),
    ),
    "space": Place(
        phrases=("in outer space", "among the stars"),
        top=(4, 4, 14),
        bottom=(22, 8, 40),
        specks=(255, 255, 255),
        hides="black",
    ),
    "sunset": Place(
        phrases=("at sunset", "in the evening"),
        top=(92, 52, 120),
        bottom=(252, 150, 72),
        ground=(52, 38, 52),
    ),
    "desert": Place(
        phrases=("in the desert", "on the sand dunes"),
        top=(244, 206, 140),
        bottom=(250, 232, 196),
        ground=(216, 160, 88),
    ),
}

NUMBERS = ("zero", "one", "two", "three", "four")

_SAME_IN_PLURAL = ("sheep", "deer", "fish", "bison", "squid", "dice", "shrimp")
_IRREGULAR = {"mouse": "mice", "wolf": "wolves", **{noun: noun for noun in _SAME_IN_PLURAL}}
_PLURAL_IN_OES = ("tomato", "potato", "mango", "buffalo", "mosquito")


def plural(noun: str) -> str:
    """The plural of a noun or family word."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")) or noun in _PLURAL_IN_OES:
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


@dataclass(frozen=True, slots=True)
class Band:
    """A range of sizes, as fractions of the image's side, and how often it is drawn."""

    low: float
    high: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vocabulary:
    """The words a data set may use, and in what mix.

    Attributes:
        name: says which it is, in files and messages.
        sprites: the sprites of each noun.
        colours: the colours an object may be tinted in.
        backgrounds: names of colours and places.
        kinds: relative weight of each kind of scene.
        sizes: size words of a lone object; "" is a size that the caption does not name.
        pair_size: smallest and largest side of each of two objects.
        group_size: smallest and largest side of each object of a group.
        tint_rate: how often an object, or a group, is tinted.
        natural_rate: how often a caption names the natural colour of a sprite that has one.
        background_rate: how often a caption states the background.
        family_rate: how often a caption says the family in place of the noun.
        styles: styles beside the plain one.
        style_rate: how often a scene without tints has such a style.
    """

    name: str
    sprites: Mapping[str, tuple[str, ...]]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    kinds: Mapping[Kind, float]
    sizes: Mapping[str, Band]
    pair_size: tuple[float, float]
    group_size: tuple[float, float] = (0.24, 0.36)
    tint_rate: float
    natural_rate: float
    background_rate: float
    family_rate: float = 0.0
    styles: tuple[str, ...] = ()
    style_rate: float = 0.0
    nouns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nouns", tuple(sorted(self.sprites)))


FULL = Vocabulary(
    name="full",
    sprites=SPRITES,
    colours=tuple(COLOURS),
    backgrounds=(*COLOURS, *PLACES),
    kinds={"one": 35, "many": 20, "relation": 30, "and": 15},
    sizes={
        "": Band(0.40, 0.58, 2),
        "small": Band(0.24, 0.32, 1),
        "medium": Band(0.40, 0.58, 1),
        "big": Band(0.70, 0.84, 1),
    },
    pair_size=(0.30, 0.44),
    tint_rate=0.3,
    natural_rate=0.4,
    background_rate=0.75,
    family_rate=0.1,
    styles=("pixel", "mono", "sketch"),
    style_rate=0.12,
)

CORE = Vocabulary(
    name="core",
    sprites={
        "cat": ("🐱",),
        "dog": ("🐶",),
        "panda": ("🐼",),
        "fox": ("🦊",),
        "frog": ("🐸",),
        "pig": ("🐷",),
        "chick": ("🐤",),
        "fish": ("🐟",),
        "apple": ("🍎",),
        "banana": ("🍌",),
        "strawberry": ("🍓",),
        "mushroom": ("🍄",),
        "tree": ("🌳",),
        "house": ("🏠",),
        "car": ("🚗",),
        "sunflower": ("🌻",),
    },
    colours=("red", "yellow", "green", "blue", "purple", "pink"),
    backgrounds=(
        *("red", "yellow", "green", "blue", "purple", "pink", "white", "black"),
        *("grass", "snow", "night", "beach"),
    ),
    kinds={"one": 55, "relation": 35, "and": 10},
    sizes={
        "": Band(0.40, 0.75, 3),
        "small": Band(0.40, 0.48, 1),
        "medium": Band(0.52, 0.61, 1),
        "big": Band(0.66, 0.75, 1),
    },
    pair_size=(0.34, 0.48),
    tint_rate=0.3,
    natural_rate=0.4,
    background_rate=0.9,
)


def family(noun: str) -> str:
    """The vaguer word for a noun, such as `animal`."""
    return FAMILIES[noun]


def natural_colour(noun: str, colour: str) -> bool:
    """Whether some sprite of the noun has this colour by itself."""
    return any(NATURAL_COLOURS.get(sprite) == colour for sprite in SPRITES[noun])
