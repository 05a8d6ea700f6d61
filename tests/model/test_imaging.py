import io
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.errors import ConditioningError
from model.imaging import (
    FORMATS,
    MAX_PIXELS,
    Pictures,
    fit,
    fit_mask,
    read_mask,
    read_picture,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _half_mask(side: int = 8) -> Image.Image:
    """The left half white: painted."""
    mask = Image.new("L", (side, side), "black")
    mask.paste("white", (0, 0, side // 2, side))
    return mask


def test_a_picture_of_the_right_size_comes_back_bit_by_bit() -> None:
    pixels = _noise(64, 64)
    for source in (pixels, Image.fromarray(pixels), _file(Image.fromarray(pixels))):
        assert np.array_equal(fit(read_picture(source), 64), pixels)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    picture = read_picture(_file(Image.new("RGB", (5, 4), RED), kind))
    assert np.abs(picture.pixels.astype(int) - RED).max() <= 3


def test_a_picture_is_cropped_to_the_square_in_its_centre() -> None:
    wide = Image.new("RGB", (40, 20), RED)
    wide.paste(BLUE, (10, 0, 30, 20))
    assert np.array_equal(fit(read_picture(wide), 20), np.full((20, 20, 3), BLUE))


def test_a_smaller_or_larger_picture_is_resized() -> None:
    picture = read_picture(Image.new("RGB", (31, 47), RED))
    for side in (16, 64):
        assert np.array_equal(fit(picture, side), np.full((side, side, 3), RED))


def test_the_camera_s_orientation_is_honoured() -> None:
    image = Image.new("RGB", (6, 4), BLUE)
    image.paste(RED, (0, 0, 1, 4))  # the left column, which is the top after a quarter turn
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(_file(image, "PNG", exif=exif))
    assert (picture.width, picture.height) == (4, 6)
    assert np.array_equal(picture.pixels[0], np.full((4, 3), RED))
    assert np.array_equal(picture.pixels[1:], np.full((5, 4, 3), BLUE))


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"],
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = read_picture(Image.new(mode, (5, 4)))
    assert picture.pixels.shape == (4, 5, 3)
    assert picture.pixels.dtype == np.uint8


def test_deep_greys_keep_their_brightness() -> None:
    levels = np.array([[0, 0x8000, 0xFFFF]], np.uint16)
    assert read_picture(_file(Image.fromarray(levels))).pixels[0, :, 0].tolist() == [0, 128, 255]
    shares = np.array([[0, 0.5, 1, np.nan]], np.float32)
    assert read_picture(Image.fromarray(shares)).pixels[0, :, 0].tolist() == [0, 128, 255, 0]


def test_what_is_transparent_lies_on_white() -> None:
    image = Image.new("RGBA", (4, 4), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 2, 4))
    picture = read_picture(_file(image))
    assert np.array_equal(picture.pixels[:, :2], np.full((4, 2, 3), 255))
    assert np.array_equal(picture.pixels[:, 2:], np.full((4, 2, 3), RED))
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [0, 0, 255, 255]


def test_a_transparent_colour_of_a_palette_is_transparent() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    picture = read_picture(_file(image, "GIF", transparency=0))
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [0, 255]


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (3, 3), RED), Image.new("RGB", (3, 3), BLUE)]
    data = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_picture(data).pixels, np.full((3, 3, 3), RED))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    data = _file(Image.new("1", (side, side)))
    assert len(data) < 100_000
    with pytest.raises(ConditioningError, match=f"{side}x{side}.* 40 megapixels"):
        read_picture(data)


@pytest.mark.parametrize("side", [10_000, 14_000])  # where Pillow warns, and where it raises
def test_a_bigger_bomb_is_refused_whether_or_not_warnings_are_errors(side: int) -> None:
    data = _file(Image.new("1", (side, side)))
    for action in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            with pytest.raises(ConditioningError, match="megapixels"):
                read_picture(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n",  # would start Ghostscript
        _file(Image.fromarray(_noise(64, 64)))[:2000],
        _file(Image.fromarray(_noise(64, 64)), "JPEG")[:700],
        _file(Image.fromarray(_noise(64, 64)), "WEBP")[:900],
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ConditioningError, match="can't be read"):
        read_picture(data)


def test_white_is_painted_black_is_kept_and_grey_is_a_blend() -> None:
    levels = np.array([[255, 0], [128, 64]], np.uint8)
    keep = read_mask(levels, read_picture(_noise(2, 2)))
    assert keep.dtype == np.float32
    assert keep == pytest.approx(1 - levels / 255, abs=1e-6)


def test_a_transparent_mask_is_painted_where_it_is_transparent() -> None:
    mask = Image.new("RGBA", (2, 2), (255, 255, 255, 255))
    mask.putpixel((0, 0), (0, 0, 0, 0))
    assert read_mask(_file(mask), read_picture(_noise(2, 2))).tolist() == [[0, 1], [1, 1]]


def test_an_opaque_alpha_says_nothing() -> None:
    mask = _half_mask().convert("RGBA")
    assert read_mask(mask, read_picture(_noise(8, 8)))[0].tolist() == [0] * 4 + [1] * 4


def test_the_noise_of_a_lossy_mask_is_neither_painted_nor_blended() -> None:
    big = _half_mask(64)
    keep = read_mask(_file(big, "JPEG", quality=60), read_picture(_noise(64, 64)))
    assert set(np.unique(keep)) == {0.0, 1.0}


def test_without_a_mask_a_transparent_picture_masks_itself() -> None:
    image = Image.fromarray(_noise(4, 4)).convert("RGBA")
    image.putpixel((1, 2), (0, 0, 0, 0))
    keep = read_mask(None, read_picture(image))
    assert keep[2, 1] == 0
    assert keep.sum() == 15


def test_an_opaque_picture_without_a_mask_is_refused() -> None:
    with pytest.raises(ConditioningError, match="needs a mask"):
        read_mask(None, read_picture(_noise(4, 4)))


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ConditioningError, match="8x8 and the picture 5x4"):
        read_mask(_half_mask(), read_picture(_noise(4, 5)))


def test_a_mask_that_keeps_all_or_nothing_is_refused() -> None:
    picture = read_picture(_noise(8, 8))
    with pytest.raises(ConditioningError, match="keeps every pixel"):
        read_mask(Image.new("L", (8, 8), "black"), picture)
    with pytest.raises(ConditioningError, match="keeps nothing"):
        read_mask(Image.new("L", (8, 8), "white"), picture)


def test_what_is_cropped_away_does_not_count_as_painted() -> None:
    mask = Image.new("L", (40, 20), "black")
    mask.paste("white", (0, 0, 5, 20))
    with pytest.raises(ConditioningError, match="square in the picture's centre"):
        read_mask(mask, read_picture(_noise(20, 40)))


def test_a_single_painted_pixel_is_painted_at_every_size() -> None:
    keep = np.ones((100, 100), np.float32)
    keep[37, 61] = 0
    for side in (7, 64, 100, 256):
        fitted = fit_mask(keep, side)
        assert fitted.shape == (side, side)
        assert fitted.min() == 0
        row, column = np.unravel_index(fitted.argmin(), fitted.shape)
        assert abs((row + 0.5) * 100 / side - 37.5) <= max(1, 100 / side)
        assert abs((column + 0.5) * 100 / side - 61.5) <= max(1, 100 / side)
    assert np.array_equal(fit_mask(keep, 100), keep)


def test_pictures_are_fitted_to_the_sides_asked_for() -> None:
    pictures = Pictures(_file(Image.fromarray(_noise(32, 32))), _file(_half_mask(32)))
    pictures.fit_to([16, 32], masked=True)
    assert pictures.image_at(16).shape == (16, 16, 3)
    assert np.array_equal(pictures.image_at(32), _noise(32, 32))
    assert pictures.keep_at(16)[0].tolist() == [0] * 8 + [1] * 8
    assert pictures.keep_at(8).shape == (8, 8)
    assert Pictures(_noise(4, 4)).image_at(2).shape == (2, 2, 3)
