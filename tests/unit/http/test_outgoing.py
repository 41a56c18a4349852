"""Where requests may go that others name."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.http.outgoing import Guard, Outgoing, is_public, networks

PUBLIC, LOOPBACK = "93.184.215.14", "127.0.0.1"


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_no_way_around(address: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.IPv6Address(f"::ffff:{address}")) == is_public(address)
    assert not is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address)))
    assert not is_public(ipaddress.IPv6Address(f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::1"))


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names mean these addresses, one list after the other; the names that were asked for."""
    asked: list[str] = []

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


async def test_of_a_name_only_good_addresses_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, [LOOPBACK, PUBLIC, "10.0.0.1", "169.254.169.254"])
    assert await Guard().resolve("mixed.example", 443) == [PUBLIC]
    assert await Guard(networks("10.0.0.0/8, 127.0.0.0/8")).resolve("mixed.example", 443) == [
        LOOPBACK, PUBLIC, "10.0.0.1",
    ]  # fmt: skip


async def test_a_name_that_means_something_else_a_moment_later_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []

    async def connect_tcp(self: object, host: str, *_: object, **__: object) -> Any:
        connected.append(host)
        import httpcore

        raise httpcore.ConnectError

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect_tcp)
    asked = named(monkeypatch, [PUBLIC], [LOOPBACK])
    outcome = await Outgoing(Guard()).send("https://rebinding.example/hook", {}, b"{}")
    # It was asked for once, and the connection goes to what was looked at.
    assert (asked, connected) == (["rebinding.example"], [PUBLIC])
    assert outcome.status is None
    outcome = await Outgoing(Guard()).send("https://rebinding.example/hook", {}, b"{}")
    assert "sends nothing to" in outcome.error
    assert connected == [PUBLIC]


async def test_plain_http_goes_to_named_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, [PUBLIC])
    outcome = await Outgoing(Guard(networks("127.0.0.0/8"))).send("http://plain.example/", {}, b"{}")
    assert "must be https" in outcome.error


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks("10.0.0.1/8")
