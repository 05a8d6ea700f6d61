"""Layouts: reproducible, within the picture, clear in their relations, true to their mix."""

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from model.scenes.captions import caption
from model.scenes.layout import Scene, Thing, available_splits, relation, sample
from model.scenes.lexicon import CORE, FULL, NATURAL_COLOURS, PLACES, Vocabulary
from model.scenes.renderer import render
from model.scenes.sprites import Sprites, load_sprites

BOTH = pytest.mark.parametrize("vocabulary", [CORE, FULL], ids=lambda v: v.name)


def scenes(vocabulary: Vocabulary, count: int) -> list[Scene]:
    return [sample(seed, "train", vocabulary) for seed in range(count)]


def thing(noun: str, x: float, y: float) -> Thing:
    return Thing(noun, CORE.sprites[noun][0], "", x, y, 0.4, flip=False, angle=0)


def digest(cache: Path) -> str:
    """A hash over everything a seed decides: layouts, facts, captions and pixels."""
    sprites, state = load_sprites(cache), hashlib.sha256()
    for vocabulary in (CORE, FULL):
        for seed in range(40):
            scene = sample(seed, "val", vocabulary)
            state.update(repr((scene, scene.facts(), caption(scene, 3))).encode())
            if vocabulary is CORE:
                state.update(render(scene, sprites).tobytes())
    return state.hexdigest()


DIGEST_ELSEWHERE = """
import runpy, sys
from pathlib import Path
digest = runpy.run_path(sys.argv[1])["digest"](Path(sys.argv[2]))
assert "torch" not in sys.modules
sys.stdout.write(digest)
"""


def test_a_seed_gives_the_same_scene_words_and_pixels_in_every_process(
    tmp_path: Path, sprites: Sprites
) -> None:
    cache = tmp_path / "sprites.npz"
    sprites.save(cache)
    root = Path(__file__).parents[3]
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST_ELSEWHERE, __file__, str(cache)],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == digest(cache)


def test_training_and_test_streams_share_no_scene() -> None:
    trained = {sample(seed, "train", CORE).things for seed in range(300)}
    tested = {sample(seed, "val", CORE).things for seed in range(300)}
    assert len(trained) == len(tested) == 300
    assert not trained & tested


@BOTH
def test_objects_stay_inside_the_picture_and_apart(vocabulary: Vocabulary) -> None:
    for scene in scenes(vocabulary, 1000):
        for one in scene.things:
            assert one.size / 2 <= min(one.x, one.y)
            assert max(one.x, one.y) <= 1 - one.size / 2
        for one, other in pairwise(scene.things):
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert apart > 0.48 * (one.size + other.size)


@BOTH
def test_no_object_has_the_colour_of_its_background(vocabulary: Vocabulary) -> None:
    for scene in scenes(vocabulary, 2000):
        hides = PLACES[scene.background].hides if scene.background in PLACES else scene.background
        assert not hides or all(one.colour != hides for one in scene.things)


@BOTH
def test_a_tint_is_never_the_colour_a_sprite_has_anyway(vocabulary: Vocabulary) -> None:
    things = [one for scene in scenes(vocabulary, 2000) for one in scene.things if one.tint]
    assert len(things) > 500
    assert all(one.tint != NATURAL_COLOURS.get(one.sprite) for one in things)
    assert {one.tint for one in things} == set(vocabulary.colours)


@BOTH
def test_kinds_come_as_often_as_the_vocabulary_says(vocabulary: Vocabulary) -> None:
    drawn = Counter(scene.kind for scene in scenes(vocabulary, 4000))
    total = sum(vocabulary.kinds.values())
    assert set(drawn) == set(vocabulary.kinds)
    for kind, weight in vocabulary.kinds.items():
        assert drawn[kind] / 4000 == pytest.approx(weight / total, abs=0.03)


def test_a_stated_size_is_in_its_band_and_half_of_lone_objects_state_one() -> None:
    lone = [scene for scene in scenes(CORE, 3000) if scene.kind == "one"]
    for scene in lone:
        band = CORE.sizes[scene.size_word]
        assert band.low <= scene.things[0].size <= band.high
        assert (("size", scene.things[0].noun, scene.size_word) in scene.facts()) == bool(
            scene.size_word
        )
    stated = sum(bool(scene.size_word) for scene in lone)
    assert stated / len(lone) == pytest.approx(0.5, abs=0.05)


def test_two_objects_always_have_one_clear_relation() -> None:
    pairs = [scene.things for scene in scenes(FULL, 2000) if scene.kind in ("relation", "and")]
    for one, other in pairs:
        slant, offset = sorted((abs(one.x - other.x), abs(one.y - other.y)))
        assert offset >= 0.3
        assert slant <= 0.6 * offset
    assert {relation(*things) for things in pairs} == {"left", "right", "above", "below"}


@pytest.mark.parametrize(
    ("x", "y", "seen"),
    [(0.1, 0.5, "left"), (0.9, 0.6, "right"), (0.4, 0.1, "above"), (0.6, 0.9, "below")],
)
def test_a_relation_says_where_the_first_is_seen_from_the_second(
    x: float, y: float, seen: str
) -> None:
    assert relation(thing("cat", x, y), thing("dog", 0.5, 0.5)) == seen


def test_facts_name_a_relation_the_same_way_round_whatever_the_order() -> None:
    cat, dog = thing("cat", 0.2, 0.5), thing("dog", 0.8, 0.5)
    facts = [
        Scene("relation", things, "red", "", "plain", 0, CORE).facts()
        for things in ((cat, dog), (dog, cat))
    ]
    assert facts[0] == facts[1]
    assert ("relation", "cat", "left", "dog") in facts[0]
    assert ("pair", "cat", "dog") in facts[0]


def test_groups_are_two_to_four_alike() -> None:
    groups = [scene for scene in scenes(FULL, 1000) if scene.kind == "many"]
    assert {len(scene.things) for scene in groups} == {2, 3, 4}
    assert all(len({(t.noun, t.sprite, t.tint) for t in scene.things}) == 1 for scene in groups)
    assert all(("count", s.things[0].noun, len(s.things)) in s.facts() for s in groups)


def test_a_split_without_scenes_is_refused() -> None:
    assert "count" not in available_splits(CORE)
    assert "count" in available_splits(FULL)
    with pytest.raises(ValueError, match="core has no scenes for the split count"):
        sample(0, "count", CORE)
