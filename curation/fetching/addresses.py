"""Which URLs are fetched, and which addresses may be connected to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from reelmill.curation.fetching.outcome import refused
from reelmill.errors import brief, is_utf8

MAX_URL = 8192
PORTS = {"http": 80, "https": 443}
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What stands in a URL as it is (RFC 3986), with `%` of what is quoted already."""
_OF_CLOUDS = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24")))
"""Addresses that count as public, at which platforms tell virtual machines what is theirs alone (Azure; Oracle)."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Address:
    """A URL that may be fetched. `host` is in lower case and ASCII, `target` the path with its query."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """`https://host`, with the port where it is not the scheme's."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{name}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")


def address_of(url: str) -> Address:
    """The parts of a URL. Raises NotFetched for one that is none, or that is not fetched."""
    url = url.strip()
    if len(url) > MAX_URL:
        raise refused(f"malformed_url: {len(url)} characters, allowed {MAX_URL}")
    if not is_utf8(url) or any(c < " " or c == "\x7f" for c in url):
        raise refused("malformed_url: it holds control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _ascii_host(parts.hostname or "")
    except ValueError as error:
        raise refused(f"malformed_url: {brief(error)}") from None
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise refused(f"scheme: {brief(scheme, 40) or 'none'}; http and https are fetched")
    if parts.username is not None or parts.password is not None:
        raise refused("credentials: it holds a user's name or password")
    if not host:
        raise refused("malformed_url: it names no host")
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return Address(url, scheme, host, port or PORTS[scheme], target)


def redirected(address: Address, location: str) -> Address:
    """Where a redirect leads. Raises NotFetched as `address_of`."""
    try:
        return address_of(urljoin(address.url, location.strip()))
    except ValueError as error:
        raise refused(f"malformed_url: a redirect: {brief(error)}") from None


def why_not(ip: Ip) -> str | None:
    """Why an address is not connected to: it is no public one. IPv4 within IPv6 counts as what it leads to."""
    if isinstance(ip, ipaddress.IPv6Address) and (inner := _embedded(ip)) is not None:
        return why_not(inner)
    if any(ip in network for network in _OF_CLOUDS):
        return "a cloud's own"
    if ip.is_multicast:
        return "multicast"
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    return None if ip.is_global and not ip.is_reserved else "not public"


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4, Teredo, NAT64."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _ascii_host(host: str) -> str:
    """A host's name as DNS has it. ValueError for one that cannot be (RFC 1035, section 2.3.4)."""
    name = (host if host.isascii() else host.encode("idna").decode()).rstrip(".").lower()
    if len(name) > 253 or any(not 0 < len(label) < 64 for label in name.split(".") if name and ":" not in name):
        raise ValueError("the host's name is none")
    return name
