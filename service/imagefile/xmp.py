"""XMP packets: who drew an image, in IPTC's words, and our own record as a property beside it.

A JPEG segment holds 64 KB; a longer record goes into an extension (XMP specification, part 3,
2020, section 1.1.3.1). Pure; knows no image.
"""

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
GLIDE = "urn:glide-service:provenance#"
_NOTE = "http://ns.adobe.com/xmp/note/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_GUID_BYTES, _OFFSET_BYTES = 32, 8
_HEAD_BYTES = len(_EXTENSION) + _GUID_BYTES + _OFFSET_BYTES
_APP1 = b"\xff\xe1"
_SEGMENT_BYTES = 65_533  # 16 bits, which count themselves
LONGEST_READ = 1 << 20
"""Bytes of a packet that is read: no record that is written comes near, and XML grows in memory."""

LONGEST_PACKET = _SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")
"""Bytes of a packet that fits into one segment of a JPEG."""


class DamagedPacket(Exception):
    """A packet that isn't well-formed."""


@dataclass(frozen=True, slots=True)
class Xmp:
    """What a packet says, as far as it matters here."""

    digital_source_type: str | None = None
    record: str | None = None
    extension: str | None = None


def packet(said: Xmp) -> bytes:
    """A whole packet."""
    properties = {
        "Iptc4xmpExt:DigitalSourceType": said.digital_source_type,
        "glide:record": said.record,
        "xmpNote:HasExtendedXMP": said.extension,
    }
    given = "".join(f" {name}={quoteattr(text)}" for name, text in properties.items() if text)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="{_META}"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}" xmlns:glide="{GLIDE}"'
        f' xmlns:xmpNote="{_NOTE}"{given}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def read_packet(data: bytes) -> Xmp:
    """What a packet says, whoever wrote it.

    Raises:
        DamagedPacket: it is too long, isn't well-formed, or declares a document type, which XMP has
            none of.
    """
    if len(data) > LONGEST_READ:
        raise DamagedPacket(f"its XMP has more than {LONGEST_READ} bytes")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DamagedPacket("its XMP declares a document type")
    try:
        root = ET.fromstring(data.strip(b"\0"))
    except (ET.ParseError, ValueError) as error:
        raise DamagedPacket(f"its XMP is not XML: {error}") from error
    return Xmp(
        digital_source_type=_property(root, IPTC, "DigitalSourceType"),
        record=_property(root, GLIDE, "record"),
        extension=_property(root, _NOTE, "HasExtendedXMP"),
    )


def extended(said: Xmp) -> tuple[bytes, bytes]:
    """The packet and the further JPEG segments of what doesn't fit into one."""
    rest = packet(Xmp(record=said.record))
    guid = hashlib.md5(rest, usedforsecurity=False).hexdigest().upper()
    main = packet(Xmp(digital_source_type=said.digital_source_type, extension=guid))
    return main, b"".join(_segments(rest, guid.encode()))


def joined(segments: Iterable[bytes], guid: str) -> bytes:
    """The extension of that name, from the segments of a JPEG.

    Raises:
        DamagedPacket: a part of it is missing or was changed.
    """
    head = _EXTENSION + guid.encode()
    parts = [each[len(head) :] for each in segments if each.startswith(head)]
    parts.sort(key=lambda part: part[4:_OFFSET_BYTES])
    whole = b"".join(part[_OFFSET_BYTES:] for part in parts)
    if hashlib.md5(whole, usedforsecurity=False).hexdigest().upper() != guid:
        raise DamagedPacket("its extended XMP is damaged")
    return whole


def _segments(data: bytes, guid: bytes) -> Iterator[bytes]:
    room = _SEGMENT_BYTES - _HEAD_BYTES
    for offset in range(0, len(data), room):
        part = data[offset : offset + room]
        size = (2 + _HEAD_BYTES + len(part)).to_bytes(2, "big")
        place = len(data).to_bytes(4, "big") + offset.to_bytes(4, "big")
        yield _APP1 + size + _EXTENSION + guid + place + part


def _property(root: ET.Element, namespace: str, name: str) -> str | None:
    """A property, written as an attribute, as an element, or as a resource."""
    key = f"{{{namespace}}}{name}"
    for element in root.iter():
        if key in element.attrib:
            return element.attrib[key]
        if element.tag == key:
            return element.attrib.get(f"{{{_RDF}}}resource") or (element.text or "").strip()
    return None
