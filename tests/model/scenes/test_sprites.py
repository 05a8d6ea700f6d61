"""Sprites: the font, its absence, and the cache that replaces it."""

import pickle
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from model.errors import ModelError
from model.scenes.layout import sample
from model.scenes.lexicon import COLOURS, CORE, FULL
from model.scenes.renderer import render
from model.scenes.sprites import (
    SpriteError,
    Sprites,
    draw_sprites,
    find_font,
    load_sprites,
    tinted,
)


@pytest.fixture(scope="module")
def font() -> Path:
    try:
        return find_font()
    except SpriteError as error:
        pytest.skip(str(error))


def test_a_saved_cache_renders_the_same_pictures(tmp_path: Path, sprites: Sprites) -> None:
    path = tmp_path / "sprites.npz"
    sprites.save(path)
    loaded = load_sprites(path)
    assert len(loaded) == len(sprites) == 16
    for seed in range(10):
        scene = sample(seed, "train", CORE)
        assert np.array_equal(render(scene, loaded), render(scene, sprites))


def test_sprites_can_be_sent_to_another_process(sprites: Sprites) -> None:
    sent = pickle.loads(pickle.dumps(sprites))
    assert np.array_equal(sent.glyph("🐱", "red"), sprites.glyph("🐱", "red"))


def test_a_missing_font_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SpriteError, match=r"not installed.*fonts-noto-color-emoji") as caught:
        draw_sprites(CORE, folders=[tmp_path, tmp_path / "absent"])
    assert isinstance(caught.value, ModelError)
    assert caught.value.code == "no_sprites"


def test_the_font_is_found_below_a_given_folder(tmp_path: Path) -> None:
    path = tmp_path / "truetype" / "noto" / "NotoColorEmoji.ttf"
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_font([tmp_path / "absent", tmp_path]) == path


def test_what_is_no_font_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "NotoColorEmoji.ttf"
    path.write_text("no font")
    with pytest.raises(SpriteError, match="can't be used as a font"):
        draw_sprites(CORE, folders=[tmp_path])
    with pytest.raises(SpriteError, match="can't be used as a font"):
        draw_sprites(CORE, font=tmp_path / "absent.ttf")


def test_a_font_without_emoji_is_refused() -> None:
    letters = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    with pytest.raises(SpriteError, match="has no bitmap of"):
        draw_sprites(CORE, font=letters)


def test_a_damaged_cache_is_refused(tmp_path: Path, sprites: Sprites) -> None:
    path = tmp_path / "sprites.npz"
    sprites.save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "flat.npz", u1f431=np.zeros(3))
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name, content in {"cut.npz": whole[: len(whole) // 2], "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "other.npz", "flat.npz", "single.npy", "absent.npz"):
        with pytest.raises(SpriteError, match="not a readable sprite cache"):
            load_sprites(tmp_path / name)


def test_an_emoji_that_the_set_lacks_is_named(sprites: Sprites) -> None:
    with pytest.raises(SpriteError, match="no 🦄"):
        sprites.glyph("🦄")


def test_a_tint_keeps_the_shape_and_the_shading(sprites: Sprites) -> None:
    glyph, red = sprites.glyph("🐱"), sprites.glyph("🐱", "red")
    assert np.array_equal(glyph[..., 3], red[..., 3])
    assert red[20, 50].mean() > red[80, 50].mean()  # the disc is lighter at the top
    assert red[50, 25].mean() < red[50, 75].mean()  # its spot is dark


def test_the_font_has_every_sprite(font: Path) -> None:
    sprites = draw_sprites(FULL, font=font)
    assert len(sprites) == len({sprite for row in FULL.sprites.values() for sprite in row})


def test_every_tint_of_every_shipped_sprite_shows_its_colour(font: Path) -> None:
    sprites = draw_sprites(CORE, font=font)
    for (sprite,) in CORE.sprites.values():
        for tint in CORE.colours:
            glyph = tinted(sprites.glyph(sprite), tint)
            mean = glyph[glyph[..., 3] > 128][:, :3].mean(0)
            distance = {c: np.linalg.norm(mean - COLOURS[c]) for c in CORE.colours}
            assert min(distance, key=lambda c: distance[c]) == tint, (sprite, tint)


def test_shipped_sprites_are_unlike_each_other(font: Path) -> None:
    sprites = draw_sprites(CORE, font=font)
    small = []
    for (sprite,) in CORE.sprites.values():
        art = Image.fromarray(sprites.glyph(sprite)).resize((24, 24), Image.Resampling.BOX)
        page = Image.new("RGB", (24, 24), (128, 128, 128))
        page.paste(art, (0, 0), art)
        small.append(np.asarray(page, np.float64))
    assert min(np.sqrt(((a - b) ** 2).mean()) for a, b in combinations(small, 2)) > 30
