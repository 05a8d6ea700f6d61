import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.errors import ConditioningError
from service.imagefile.encoding import encode
from service.imagefile.provenance import DRAWN_BY_A_MODEL
from service.imagefile.reading import read_file
from tests.service.imagefile.making import FORMATS, file_of, pixels
from tests.service.some_pictures import picture


def saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, kind, **options)
    return buffer.getvalue()


def png_with(**texts: str) -> bytes:
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_itxt(keyword, text)
    return saved("PNG", pnginfo=chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    plain, head = saved("PNG"), 8 + 25
    return plain[:head] + chunk(kind, data) + plain[head:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_picture_that_says_nothing_is_only_a_picture(kind: str) -> None:
    file = read_file(picture(kind=kind))
    assert file.pixels.shape == (32, 48, 3)
    assert (file.record, file.generation, file.digital_source_type) == (None, None, None)
    assert file.problems == ()


def test_a_format_that_keeps_every_pixel_is_known() -> None:
    kinds: dict[str, dict[str, Any]] = {"PNG": {}, "BMP": {}, "JPEG": {}}
    found = {kind: read_file(saved(kind)).lossless for kind in kinds}
    assert found == {"PNG": True, "BMP": True, "JPEG": False}
    assert read_file(saved("WEBP", lossless=True)).lossless
    assert read_file(saved("WEBP", lossless=True, xmp=b"<x/>")).lossless
    assert not read_file(saved("WEBP")).lossless


def test_pixels_in_other_modes_are_read_as_rgb() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) << 8)
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    assert read_file(buffer.getvalue()).pixels[0, 3].tolist() == [3, 3, 3]


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_truncated_file_is_refused(output_format: str) -> None:
    data = file_of(output_format=output_format)
    for length in (0, 10, len(data) // 2):
        with pytest.raises(ConditioningError, match="can't be read"):
            read_file(data[:length])


def test_a_picture_that_would_unpack_to_too_much_is_refused_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ConditioningError, match="at most 40 megapixels"):
        read_file(bomb)


def test_text_that_would_unpack_to_too_much_is_refused() -> None:
    packed = b"glide\0\1\0\0\0" + zlib.compress(b"{" * (100 << 20))
    with pytest.raises(ConditioningError, match="more text than is read"):
        read_file(with_chunk(b"iTXt", packed))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON that can be read"),
        ("[" * 100_000, "not JSON that can be read"),
        ('{"schema": "glide-provenance/2", "seed": NaN}', "not JSON that can be read"),
        ('{"schema": "glide-provenance/2", "seed": ' + "9" * 5000 + "}", "not JSON"),
        ('{"schema": "glide-provenance/2", "prompt": "\\ud800"}', "not JSON that can be read"),
        ("[1]", "none of this service"),
        ('{"schema": 3}', "none of this service"),
        ('{"schema": "else/1"}', "none of this service"),
        ('"' + "a" * (3 << 20) + '"', "more than"),
    ],
)
def test_a_record_that_is_none_is_told_and_left_out(text: str, problem: str) -> None:
    file = read_file(png_with(glide=text, parameters="a cat"))
    assert file.record is None
    assert file.generation == "a cat"
    assert len(file.problems) == 1
    assert problem in file.problems[0]


@pytest.mark.parametrize(
    ("packet", "problem"),
    [
        (b"<x", "not XML"),
        (b"\xff\xfe<", "not XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
        (b"<a>" * 10_000, "not XML"),
    ],
)
def test_xmp_that_is_none_is_told_and_left_out(packet: bytes, problem: str) -> None:
    file = read_file(saved("JPEG", xmp=packet))
    assert (file.record, file.digital_source_type) == (None, None)
    assert problem in file.problems[0]


@pytest.mark.parametrize(
    ("packet", "problem"),
    [(b"<a>" * 300_000, "not XML"), (b"<a>" + b"<b/>" * 500_000 + b"</a>", "more than")],
)
def test_xmp_that_would_take_much_memory_is_not_unpacked(packet: bytes, problem: str) -> None:
    file = read_file(saved("WEBP", xmp=packet))
    assert problem in file.problems[0]


@pytest.mark.parametrize(
    "body",
    [
        '<r:Description xmlns:i="{iptc}" i:DigitalSourceType="{type}"/>',
        '<r:Description xmlns:i="{iptc}"><i:DigitalSourceType>{type}</i:DigitalSourceType>'
        "</r:Description>",
        '<r:Description xmlns:i="{iptc}"><i:DigitalSourceType r:resource="{type}"/>'
        "</r:Description>",
    ],
)
def test_xmp_of_other_programs_is_read_in_all_its_spellings(body: str) -> None:
    inner = body.format(iptc="http://iptc.org/std/Iptc4xmpExt/2008-02-29/", type=DRAWN_BY_A_MODEL)
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    packet = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="{rdf}">{inner}</r:RDF></x:xmpmeta>'
    )
    assert read_file(saved("JPEG", xmp=packet.encode())).digital_source_type == DRAWN_BY_A_MODEL


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif_that_is_none_is_no_reason_to_fail(kind: str) -> None:
    junk = b"Exif\0\0" + bytes(range(256))
    file = read_file(saved(kind, exif=junk, xmp=b""))
    assert file.generation is None
    assert all("metadata can't be read" in problem for problem in file.problems)


def longer(change: Callable[[bytes], bytes]) -> bytes:
    record = {"schema": "glide-provenance/2", "prompt": "a" * 150_000, "negative_prompt": ""}
    settings = {
        "steps": 1, "sampler": "ddim", "guidance_scale": 1, "seed": 1, "width": 1, "height": 1,
        "model_sha256": "", "model": "", "task": "generate", "eta": 0, "service_version": "",
    }  # fmt: skip
    return change(encode(pixels(), "jpeg", record | settings, DRAWN_BY_A_MODEL))


def test_a_record_longer_than_a_segment_is_whole_or_told_to_be_damaged() -> None:
    whole = read_file(longer(lambda data: data))
    assert whole.record is not None
    assert len(whole.record["prompt"]) == 150_000
    damaged = read_file(longer(lambda data: data.replace(b"aaaa", b"aaab", 1)))
    assert damaged.record is None
    assert damaged.problems == ("its extended XMP is damaged",)
    assert damaged.digital_source_type == DRAWN_BY_A_MODEL


def test_text_that_stands_behind_the_pixels_is_read_too() -> None:
    plain = saved("PNG")
    text = b"parameters\0a cat"
    assert read_file(plain[:-12] + chunk(b"tEXt", text) + plain[-12:]).generation == "a cat"


def test_a_comment_in_the_other_byte_order_is_read() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a cat".encode("utf-16-le")
    assert read_file(saved("JPEG", exif=exif)).generation == "a cat"


def test_records_of_the_first_release_are_read() -> None:
    old = {"schema": "glide-provenance/1", "prompt": "a cat", "seed": 3}
    assert read_file(png_with(glide=json.dumps(old))).record == old
