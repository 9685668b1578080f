"""Which hosts a web address may lead to."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.places.addresses import Found, LookUp, checked, refusal


def knows(*addresses: str) -> LookUp:
    """A resolver that gives these, whatever it is asked for."""

    def look_up(host: str, port: int, **_: Any) -> Found:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in addresses
        ]

    return look_up


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.255.255", "100.128.0.0"),
        *("192.0.1.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"),
        *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
    ],
)
def test_public_addresses_are_read_from(address: str) -> None:
    assert refusal(address) == ("", True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
        *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "198.18.0.1"),
        *("fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo, of 127.0.0.1
    ],
)
def test_addresses_of_the_own_network_are_read_from_if_that_is_allowed(address: str) -> None:
    what, ever = refusal(address)
    assert what
    assert ever


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.255.255.250", "ff02::1"),
        *("240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1"),
        *("192.0.0.8", "192.88.99.1", "2001:db8::1", "3fff::1", "100::1", "::127.0.0.1"),
        *("::ffff:0.0.0.0", "64:ff9b::e000:1", "4000::1", "5f00::1"),
    ],
)
def test_addresses_of_no_single_host_are_never_read_from(address: str) -> None:
    what, ever = refusal(address)
    assert what
    assert not ever
    with pytest.raises(InputError) as caught:
        checked("host.test", 80, allow_private=True, look_up=knows(address))
    assert "--allow-private" not in str(caught.value)


def test_a_refusal_names_host_address_and_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        checked("intra.test", 80, allow_private=False, look_up=knows("10.1.2.3"))
    for part in ("intra.test", "10.1.2.3", "private", "--allow-private"):
        assert part in str(caught.value)
    found = checked("intra.test", 80, allow_private=True, look_up=knows("10.1.2.3"))
    assert found[0][4] == ("10.1.2.3", 80)


def test_a_name_for_a_public_and_a_private_address_is_refused() -> None:
    with pytest.raises(InputError, match=r"169\.254\.169\.254"):
        checked(
            "both.test", 80, allow_private=False, look_up=knows("93.184.216.34", "169.254.169.254")
        )


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "0"]
)
def test_other_ways_to_write_this_machine_are_found_out(host: str) -> None:
    with pytest.raises(InputError, match=f"{host}: is not read"):
        checked(host, 80, allow_private=False)


def test_a_host_that_is_not_known_is_told() -> None:
    with pytest.raises(InputError, match=r"nowhere\.invalid: the host is not found"):
        checked("nowhere.invalid", 80, allow_private=False)
    with pytest.raises(InputError, match="has no address"):
        checked("empty.test", 80, allow_private=False, look_up=knows())
