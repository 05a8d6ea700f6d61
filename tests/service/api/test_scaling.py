import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.api.scaling import Size, parse_size, scaled
from tests.service.some_pictures import picture


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("640x480", (640, 480)),
        ("1x1", (1, 1)),
        ("0x1", None),
        ("01x1", None),
        ("1x1 ", None),
        ("1×1", None),
        ("٣x3", None),
        ("100000x1", None),
        ("auto", None),
    ],
)
def test_a_size_is_two_plain_numbers(text: str, size: Size | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_covers_its_new_size(kind: str) -> None:
    image = opened(scaled(picture(64, 64, kind=kind), (96, 32), kind.lower()))
    assert (image.size, image.format) == ((96, 32), kind)


def test_what_stands_over_is_cut_off_on_both_sides() -> None:
    stripes = Image.new("RGB", (90, 30))
    for number, colour in enumerate(("red", "lime", "blue")):
        stripes.paste(colour, (30 * number, 0, 30 * number + 30, 30))
    buffer = io.BytesIO()
    stripes.save(buffer, "PNG")
    kept = opened(scaled(buffer.getvalue(), (30, 30), "png"))
    assert kept.getcolors() == [(900, (0, 255, 0))]


def test_a_png_keeps_its_texts() -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a cat")
    chunks.add_itxt("glide", '{"prompt": "猫"}')
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    info = opened(scaled(buffer.getvalue(), (4, 4), "png")).info
    assert (info["parameters"], info["glide"]) == ("a cat", '{"prompt": "猫"}')


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_others_keep_their_exif_and_xmp(kind: str) -> None:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    exif[0x010E] = "a cat"
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, xmp=b"<x/>")
    found = opened(scaled(buffer.getvalue(), (4, 4), kind.lower()))
    assert found.getexif()[0x010E] == "a cat"
    assert found.info["xmp"] == b"<x/>"


def test_another_format_is_possible() -> None:
    assert opened(scaled(picture(), (10, 10), "jpeg")).format == "JPEG"
