"""Where a call goes: to an address that was checked, under the name that was asked for."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from service.webhooks.calls import Caller, SystemResolver, start_of
from tests.service.webhooks.conftest import Service, running
from tests.service.webhooks.receiver import Receiver, receiving

PUBLIC = "93.184.215.14"


class Names:
    """A name server of the test's own: gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def caller(
    names: Names | SystemResolver, *, allow_private: bool = False, **options: object
) -> Caller:
    return Caller(names, timeout_s=2.0, allow_private=allow_private, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%lo"],
        ["0.0.0.0"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [],
    ],
)
async def test_a_name_that_leads_inside_is_not_called(
    receiver: Receiver, addresses: Sequence[str]
) -> None:
    url = f"https://hooks.example:{receiver.port}/"
    answer = await caller(Names(addresses)).post(url, {}, b"{}")
    assert answer.status is None
    assert answer.error is not None
    assert "address" in answer.error
    assert receiver.received == []


async def test_names_of_this_machine_are_not_called(receiver: Receiver) -> None:
    url = f"https://localhost:{receiver.port}/"
    answer = await caller(SystemResolver(1)).post(url, {}, b"{}")
    assert answer.status is None
    assert answer.error is not None
    assert "not a public address" in answer.error


async def test_metadata_is_not_called_even_where_private_addresses_are() -> None:
    names = Names(["169.254.169.254"])
    answer = await caller(names, allow_private=True).post("http://metadata.example/", {}, b"{}")
    assert answer.status is None
    assert answer.error is not None
    assert "metadata" in answer.error


async def test_a_name_is_resolved_once_for_a_call_and_again_for_the_next() -> None:
    async with receiving("127.0.0.1") as first, receiving("127.0.0.2", first.port) as second:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        calls = caller(names, allow_private=True)
        url = f"http://hooks.example:{first.port}/"
        assert (await calls.post(url, {}, b"1")).status == 204
        assert (names.asked, len(first.received), len(second.received)) == (1, 1, 0)
        assert (await calls.post(url, {}, b"2")).status == 204
        assert (names.asked, len(first.received), len(second.received)) == (2, 1, 1)


async def test_a_name_that_turns_inside_after_the_check_is_not_called_there(
    receiver: Receiver,
) -> None:
    names = Names([PUBLIC], ["127.0.0.1"])
    calls = Caller(names, timeout_s=0.3, allow_private=False)
    url = f"https://hooks.example:{receiver.port}/"
    assert (await calls.post(url, {}, b"")).status is None
    assert names.asked == 1
    refused = await calls.post(url, {}, b"")
    assert (names.asked, refused.status) == (2, None)
    assert refused.error == "127.0.0.1 is not a public address"
    assert receiver.received == []


async def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    names = Names(["127.0.0.3", "127.0.0.1"])
    url = f"http://hooks.example:{receiver.port}/a?b=c"
    assert (await caller(names, allow_private=True).post(url, {}, b"{}")).status == 204
    (got,) = receiver.received
    assert got.headers["host"] == f"hooks.example:{receiver.port}"
    assert got.target == "/a?b=c"


async def test_a_name_that_does_not_resolve_is_an_answer(service: Service) -> None:
    job = await service.ended("http://no-such-host.invalid/")
    async with running(service.sender()):
        (attempt, *_) = (await service.attempted(job)).attempts
    assert attempt.status is None
    assert attempt.error is not None
    assert "resolve" in attempt.error


async def test_nobody_listening_is_an_answer(service: Service) -> None:
    async with receiving() as gone:
        url = gone.url
    job = await service.ended(url)
    async with running(service.sender()):
        (attempt, *_) = (await service.attempted(job)).attempts
    assert attempt.error is not None
    assert attempt.error.startswith("ConnectError")


async def test_an_answer_that_is_no_http_is_an_answer(receiver: Receiver) -> None:
    receiver.answers.append(b"SSH-2.0-OpenSSH\r\n\r\n")
    answer = await caller(Names(["127.0.0.1"]), allow_private=True).post(receiver.url, {}, b"")
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("RemoteProtocolError")


async def test_no_more_of_a_body_is_read_than_is_shown() -> None:
    given = []

    async def body() -> AsyncIterator[bytes]:
        while True:
            given.append(b"x" * 500)
            yield given[-1]

    assert await start_of(httpx.Response(500, content=body())) == "x" * 1024
    assert len(given) <= 5


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate of `hooks.example`, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "hooks.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    where = ["-nodes", "-days", "2", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run([*command, *names, *where], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_keeps_the_name_though_the_connection_goes_to_an_address(
    certificate: Path,
) -> None:
    trust = ssl.create_default_context(cafile=f"{certificate}.crt")
    async with receiving(tls=tls_server(certificate)) as receiver:
        calls = caller(Names(["127.0.0.1"]), allow_private=True, tls=trust)
        answer = await calls.post(f"https://hooks.example:{receiver.port}/", {}, b"{}")
        assert (answer.status, answer.error) == (204, None)
        assert receiver.tls_names == ["hooks.example"]
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_a_certificate_of_another_name_or_authority_ends_the_call(certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=f"{certificate}.crt")
    async with receiving(tls=tls_server(certificate)) as receiver:
        for host, tls in (("other.example", trust), ("hooks.example", None)):
            calls = caller(Names(["127.0.0.1"]), allow_private=True, tls=tls)
            answer = await calls.post(f"https://{host}:{receiver.port}/", {}, b"{}")
            assert answer.status is None
            assert "CERTIFICATE_VERIFY_FAILED" in (answer.error or "")
        assert receiver.received == []


async def test_a_slow_name_server_ends_the_call_in_time() -> None:
    class Silent(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

    calls = Caller(Silent([]), timeout_s=0.1, allow_private=False)
    answer = await calls.post("https://hooks.example/", {}, b"")
    assert answer.error == "no answer within 0.1 s"
