"""Which addresses the service may call for a client: public ones, unless told otherwise. Pure.

A client names the URL of its own server. Without these checks it could have the service call
whatever the service can reach: its Redis, its neighbours, or the address where a cloud hands out
keys. URLs are read as browsers read them (the WHATWG's rules), so that `2130706433`, `0x7f.1` and
`127.0.0.1` are one host. Resolves no name.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from pydantic_core import Url, ValidationError

IpAddress = IPv4Address | IPv6Address

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure
    )
)
_PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("100.64.0.0/10"),
    IPv4Network("127.0.0.0/8"),
    IPv6Network("fc00::/7"),
    IPv6Network("::1/128"),
)
_UNUSABLE = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("3fff::/20"),  # documentation
)
_LOCAL_NAMES = frozenset({"localhost", "localdomain", "local", "internal", "home.arpa"})
"""Domains whose names never belong to a public server (RFC 6761, 6762 and 8375, and ICANN's)."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


class AddressRefused(ValueError):
    """An address that the service does not call; its text is fit to show to the client."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL that may be called, as far as it can be told without resolving its name.

    Attributes:
        url: in its canonical form.
        scheme: `https`, or `http` where that is allowed.
        host: a name in ASCII, or an IP address without brackets.
        port: 1 … 65 535.
        target: path and query, as a request line has them.
    """

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's own, port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"


def read_endpoint(text: str, *, allow_private: bool) -> Endpoint:
    """The endpoint that a client's URL names.

    Args:
        text: the URL.
        allow_private: whether plain http and the private ranges are allowed.

    Raises:
        AddressRefused: it is no URL of a server that may be called.
    """
    if any(character <= " " or character in "\x7f\\" for character in text):
        raise AddressRefused("a URL without spaces, backslashes and control characters")
    try:
        url = Url(text)
    except ValidationError as error:
        raise AddressRefused(f"not a URL: {error.errors()[0]['msg']}") from None
    if url.scheme != "https" and not (url.scheme == "http" and allow_private):
        raise AddressRefused("a URL that starts with https://")
    if url.username is not None or url.password is not None:
        raise AddressRefused("a URL without a user name and a password")
    if not url.host or not url.port:
        raise AddressRefused("a URL with a host and a port above 0")
    host = url.host.strip("[]").rstrip(".")
    address = _literal(host)
    if address is not None:
        require_callable(address, allow_private=allow_private)
    elif _is_local(host) and not allow_private:
        raise AddressRefused(f"{host} is a local name and not a public address")
    target = (url.path or "/") + ("" if url.query is None else f"?{url.query}")
    endpoint = Endpoint("", url.scheme, host, url.port, target)
    canonical = f"{endpoint.scheme}://{endpoint.authority}{target}"
    return Endpoint(canonical, endpoint.scheme, host, url.port, target)


def require_callable(address: IpAddress, *, allow_private: bool) -> None:
    """Returns when an IP address may be called.

    Args:
        address: of a host.
        allow_private: whether loopback and the private ranges are allowed. Never allowed are
            addresses of metadata, links, groups and those that are no host's.

    Raises:
        AddressRefused: it may not.
    """
    real = _embedded(address) or address
    if real in _METADATA:
        raise AddressRefused(f"{address} is the address of a cloud's metadata")
    if any(real in network for network in _PRIVATE):
        if not allow_private:
            raise AddressRefused(f"{address} is not a public address")
    elif not _is_public(real):
        raise AddressRefused(f"{address} is not an address that a public server can have")


def _literal(host: str) -> IpAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_local(name: str) -> bool:
    """Whether a name means something in one machine's network alone, whatever it resolves to."""
    labels = name.lower().split(".")
    return len(labels) == 1 or not _LOCAL_NAMES.isdisjoint((labels[-1], ".".join(labels[-2:])))


def _embedded(address: IpAddress) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public(address: IpAddress) -> bool:
    if any(address in network for network in _UNUSABLE) or address.is_multicast:
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global
