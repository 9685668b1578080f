"""Which addresses a source in the web may be read from: those that anybody may reach.

An address is resolved once; what is connected to is what was checked, so that a name which means
something else a moment later does not matter.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias

from artist_bio_gen.errors import InputError

Found: TypeAlias = Sequence[tuple[int, int, int, str, tuple[Any, ...]]]
"""What `socket.getaddrinfo` returns."""

LookUp: TypeAlias = Callable[..., Found]

_NO_HOST = {
    "the unspecified address": ("0.0.0.0/8", "::/128"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "100::/64", "2001:db8::/32", "3fff::/20"),
    ),
}
"""Nothing answers there, or not one host alone (the registries of RFC 6890)."""

_LINK_LOCAL = "link-local"

_OWN = {
    "this machine": ("127.0.0.0/8", "::1/128"),
    _LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    "private": (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"),
        *("fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
    ),
    "the provider's own (CGNAT)": ("100.64.0.0/10",),
}

_PUBLIC_6 = IPv6Network("2000::/3")

_EMBEDDING = {
    # Where the IPv4 address stands: how many bits are to the right of it.
    IPv6Network("::ffff:0:0/96"): 0,  # IPv4-mapped
    IPv6Network("64:ff9b::/96"): 0,  # NAT64 (RFC 6052)
    IPv6Network("2002::/16"): 80,  # 6to4
}

_TEREDO = IPv6Network("2001::/32")


def _networks(table: dict[str, tuple[str, ...]]) -> list[tuple[str, IPv4Network | IPv6Network]]:
    return [
        (what, IPv6Network(each) if ":" in each else IPv4Network(each))
        for what, networks in table.items()
        for each in networks
    ]


_NEVER = _networks(_NO_HOST)
_IF_ALLOWED = _networks(_OWN)


def checked(
    host: str,
    port: int,
    *,
    allow_private: bool,
    redirected: bool = False,
    look_up: LookUp = socket.getaddrinfo,
) -> Found:
    """All that this host is reached by. InputError when it is not known, or when any of it may
    not be read from: a name for both a public and a private address is a trick. Nor is anybody
    `redirected` to link-local addresses, where clouds keep keys, whatever is allowed."""
    try:
        found = look_up(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise InputError(f"{host}: the host is not found ({reason}); check the address") from exc
    if not found:
        raise InputError(f"{host}: the host is not found (it has no address); check the address")
    for *_, place in found:
        what, ever = refusal(str(place[0]))
        hint = "; if that is meant, add --allow-private" if ever else ""
        if redirected and what == _LINK_LOCAL:
            ever = False
            hint = ", and a redirect leads there; give the address itself if it is meant"
        if what and not (ever and allow_private):
            raise InputError(
                f"{host}: is not read, for its address {place[0]} is {what}, not one of the"
                f" public internet{hint}"
            )
    return found


def refusal(address: str) -> tuple[str, bool]:
    """What is wrong with an IP address, "" for nothing, and whether it may be allowed."""
    ip = _embedded(ip_address(address.partition("%")[0]))
    for what, network in _NEVER:
        if ip in network:
            return what, False
    for what, network in _IF_ALLOWED:
        if ip in network:
            return what, True
    if isinstance(ip, IPv6Address) and ip not in _PUBLIC_6:
        return "reserved", False
    return "", True


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address which is meant, where there is one within."""
    if isinstance(ip, IPv4Address):
        return ip
    for network, right in _EMBEDDING.items():
        if ip in network:
            return IPv4Address((int(ip) >> right) & 0xFFFFFFFF)
    if ip in _TEREDO:
        return IPv4Address(~int(ip) & 0xFFFFFFFF)
    return ip
