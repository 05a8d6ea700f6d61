"""Which addresses the service calls for a client, and which it never does."""

from ipaddress import ip_address

import pytest

from service.addresses import AddressRefused, read_endpoint, require_callable

PUBLIC = (
    "93.184.215.14",
    "8.8.8.8",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "64:ff9b::808:808",  # NAT64 of 8.8.8.8
    "::ffff:8.8.8.8",
    "2002:808:808::1",  # 6to4 of 8.8.8.8
)
PRIVATE = (
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
)
NEVER = (
    "169.254.169.254",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.0.8",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "192.88.99.1",
    "ff02::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "64:ff9b:1::7f00:1",
    "::ffff:0:127.0.0.1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_called(text: str) -> None:
    require_callable(ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", PRIVATE)
def test_a_private_address_may_be_called_only_where_that_is_allowed(text: str) -> None:
    require_callable(ip_address(text), allow_private=True)
    with pytest.raises(AddressRefused):
        require_callable(ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_addresses_of_metadata_links_and_groups_are_never_called(
    text: str, allow_private: bool
) -> None:
    with pytest.raises(AddressRefused):
        require_callable(ip_address(text), allow_private=allow_private)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "ftp://hooks.example/x",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "javascript:alert(1)",
        "hooks.example/x",
        "//hooks.example/x",
        "https://",
        "https://user@hooks.example/",
        "https://user:secret@hooks.example/",
        "https://hooks.example:0/",
        "https://hooks.example:65536/",
        "https://hooks.example/a b",
        "https://hooks.example/\n",
        "https://hooks.example\\@10.0.0.1/",
        "https://exa mple/",
        "https://[fe80::1%25eth0]/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://017700000001/",
        "https://１２７.0.0.1/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2852039166/",
        "https://[fd00:ec2::254]/latest/",
        "https://localhost/",
        "HTTPS://LOCALHOST./",
        "https://hooks.localhost/",
        "https://redis:6379/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://router.home.arpa/",
    ],
)
def test_a_url_that_is_not_of_a_public_server_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        read_endpoint(url, allow_private=False)
    assert str(refused.value)


def test_local_names_are_a_matter_of_the_setting() -> None:
    assert read_endpoint("http://redis:8000/x", allow_private=True).host == "redis"
    endpoint = read_endpoint("https://local.example/", allow_private=False)
    assert endpoint.host == "local.example"


def test_an_endpoint_has_the_canonical_url() -> None:
    endpoint = read_endpoint("HTTPS://Exämple.COM.:8443/ü/../a?b=ç#d", allow_private=False)
    assert endpoint.url == "https://xn--exmple-cua.com:8443/a?b=%C3%A7"
    assert (endpoint.host, endpoint.port) == ("xn--exmple-cua.com", 8443)
    assert endpoint.authority == "xn--exmple-cua.com:8443"
    assert endpoint.target == "/a?b=%C3%A7"
    assert read_endpoint(endpoint.url, allow_private=False) == endpoint


def test_http_and_private_addresses_are_a_matter_of_the_setting() -> None:
    endpoint = read_endpoint("http://[::1]/x", allow_private=True)
    assert (endpoint.scheme, endpoint.host, endpoint.port) == ("http", "::1", 80)
    assert endpoint.url == "http://[::1]/x"
    with pytest.raises(AddressRefused):
        read_endpoint("http://169.254.169.254/", allow_private=True)
