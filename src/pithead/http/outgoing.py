"""Requests that a coordinator makes to addresses that others name: to public ones, and to those that the operator allows.

A name is resolved here, every address is looked at, and the connection is made to one that was found good – not to the
name, which could mean something else a moment later. Nobody's proxies are used, and redirects are not followed.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import httpcore
import httpx

from pithead import __version__
from pithead.core.errors import Fault, Invalid
from pithead.exchange.webhooks import Outcome

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]

#: Seconds to connect in, between two words, and for all of it.
_CONNECT, _SILENCE, _ALL = 5.0, 10.0, 20.0
#: What translates IPv4 into IPv6 on the way (RFC 6052, RFC 8215): what is behind it is not seen from here.
_TRANSLATED: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class Refused(Exception):
    """It may not be sent there. The message is for who named the address."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks, separated by commas, as the setting has them. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


def is_public(address: Address) -> bool:
    """Whether it is somewhere on the Internet, and nowhere in this house."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None:
            return False
        if any(address in network for network in _TRANSLATED) or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


class Guard:
    """Says where requests may go."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = allowed

    def allows(self, address: Address) -> bool:
        """Whether a request may go to this address."""
        plain = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped else address
        return any(plain in network for network in self._allowed if network.version == plain.version) or is_public(
            plain
        )

    def is_named(self, address: Address) -> bool:
        """Whether the operator named a network that it is in."""
        return self.allows(address) and not is_public(address)

    def check(self, url: str) -> str:
        """The URL, as far as that can be said without asking for its name. Raises `Invalid`."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise Invalid(Fault("url", "is no URL; write it like https://example.org/hook")) from None
        if parsed.scheme not in ("https", "http") or not parsed.host:
            raise Invalid(Fault("url", "must be like https://example.org/hook"))
        if parsed.userinfo or parsed.fragment:
            raise Invalid(Fault("url", "must have no password and no fragment in it"))
        address = _literal(parsed.host)
        if address is not None and not self.allows(address):
            raise Invalid(Fault("url", "is an address within a network that this coordinator sends nothing to"))
        if parsed.scheme == "http" and not (self._allowed if address is None else self.is_named(address)):
            raise Invalid(Fault("url", "must be https: whoever is on the way could read what is sent"))
        return url

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name that may be connected to. Raises `Refused`."""
        literal = _literal(host)
        if literal is not None:
            found = [literal]
        else:
            try:
                entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                raise Refused(f"the name {host} is not known") from None
            found = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
        good = [str(address) for address in dict.fromkeys(found) if self.allows(address)]
        if not good:
            raise Refused(f"{host} is within a network that this coordinator sends nothing to")
        return good


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        # As the C library reads it, and so some resolvers: `127.1`, `0x7f000001`, `2130706433`.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to the address that was looked at."""

    def __init__(self, guard: Guard, secure: bool) -> None:
        self._guard, self._secure = guard, secure
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._guard.resolve(host, port):
            if not self._secure and not self._guard.is_named(ipaddress.ip_address(address)):
                raise Refused("to an address outside of the named networks it must be https")
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: SocketOptions | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("there are no sockets of this machine to be reached")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Outgoing:
    """Sends one body at a time to one URL."""

    def __init__(self, guard: Guard, trust: ssl.SSLContext | None = None) -> None:
        """`trust`: whose certificates are taken; those that the system trusts, unless given."""
        self._guard = guard
        self._trust = trust

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST it; what was answered. A connection of its own each time: what a name means may change. Raises nothing."""
        target = httpx.URL(url)
        secure = target.scheme == "https"
        timeouts: dict[str, Any] = {"connect": _CONNECT, "read": _SILENCE, "write": _SILENCE, "pool": _CONNECT}
        sent = {"host": target.netloc.decode(), "user-agent": f"pithead/{__version__}", **headers}
        try:
            async with (
                asyncio.timeout(_ALL),
                httpcore.AsyncConnectionPool(
                    ssl_context=self._trust, max_connections=1, network_backend=_Backend(self._guard, secure)
                ) as pool,
                pool.stream(
                    "POST",
                    str(target),
                    headers=[(name.encode(), value.encode()) for name, value in sent.items()],
                    content=body,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                # What it says beside that is nobody's business here.
                return _outcome(response.status)
        except TimeoutError:
            return Outcome(None, f"no answer within {_ALL:g} s")
        except Refused as refused:
            return Outcome(None, str(refused))
        except (
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            ssl.SSLError,
            OSError,
        ) as error:
            # The kind of it alone: its text may tell of this side's network.
            return Outcome(None, f"could not be sent: {type(error).__name__}")


def _outcome(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status)
    if 300 <= status < 400:
        return Outcome(status, "it points elsewhere, and redirects are not followed")
    return Outcome(status, f"answered {status}")
