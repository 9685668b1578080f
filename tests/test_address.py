from __future__ import annotations

import pytest

from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.address import Address, Proxy, choose_proxy


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("https://api.openai.com/v1", Address("https", "api.openai.com", 443, "/v1"),
         "api.openai.com"),
        (" http://localhost:8080/v1/ ", Address("http", "localhost", 8080, "/v1"),
         "localhost:8080"),
        ("http://[::1]:8080", Address("http", "::1", 8080, ""), "[::1]:8080"),
        ("https://x.test:80/a b", Address("https", "x.test", 80, "/a%20b"), "x.test:80"),
        ("https://m\u00fcnchen.test", Address("https", "xn--mnchen-3ya.test", 443, ""),
         "xn--mnchen-3ya.test"),
    ],
)  # fmt: skip
def test_base_address(url: str, address: Address, authority: str) -> None:
    assert Address.parse(url) == address
    assert address.authority == authority


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com/v1", "ftp://x.test", "https://", "https://x.test:port", "https://[::1",
     "https://x.test:99999", "https://user:hidden@x.test/v1", "https://x.test/v1?a=b",
     "https://user:hidden@x.test:99999/v1", "https://\u00fc..b/"],
)  # fmt: skip
def test_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="--base-url") as caught:
        Address.parse(url)
    assert "hidden" not in str(caught.value)


PROXIES = {"http": "http://plain.test:3128", "https": "http://user:p%40ss@tls.test"}


@pytest.mark.parametrize(
    ("url", "proxies", "proxy"),
    [
        ("http://api.test/v1", PROXIES, Proxy("plain.test", 3128)),
        ("https://api.test/v1", PROXIES, Proxy("tls.test", 80, "Basic dXNlcjpwQHNz")),
        ("https://api.test/v1", {"http": "http://plain.test"}, None),
        ("https://api.test/v1", {"all": "any.test:8"}, Proxy("any.test", 8)),
        ("https://api.test/v1", {}, None),
        ("https://localhost/v1", PROXIES, None),
        ("https://127.0.0.9/v1", PROXIES, None),
        ("http://[::1]/v1", PROXIES, None),
    ],
)
def test_proxy_of_an_address(url: str, proxies: dict[str, str], proxy: Proxy | None) -> None:
    assert choose_proxy(Address.parse(url), proxies) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "exempt"),
    [
        ("*", True), ("api.test", True), ("API.test", True), (".test", True), ("test", True),
        ("*.test", True), ("a.test, api.test:443 ,b", True), ("api.test:80", False),
        ("pi.test", False), ("other.test", False), ("", False), (",", False),
    ],
)  # fmt: skip
def test_no_proxy(no_proxy: str, exempt: bool) -> None:
    proxies = {**PROXIES, "no": no_proxy}
    assert (choose_proxy(Address.parse("https://api.test/v1"), proxies) is None) == exempt


def test_no_proxy_takes_networks() -> None:
    proxies = {**PROXIES, "no": "10.0.0.0/8"}
    assert choose_proxy(Address.parse("https://10.1.2.3/v1"), proxies) is None
    assert choose_proxy(Address.parse("https://11.1.2.3/v1"), proxies) is not None


@pytest.mark.parametrize("url", ["socks5://s.test", "https://s.test", "http://", "http://s:x"])
def test_proxy_that_cannot_be_used_is_a_setting_that_does_not_fit(url: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        choose_proxy(Address.parse("https://api.test/v1"), {"https": url})


@pytest.mark.parametrize("host", ["a..b", ".a", "x" * 64, "a." + "x" * 64 + ".de", ".."])
def test_a_host_name_that_no_resolver_takes_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        Address.parse(f"http://{host}/v1")
    with pytest.raises(ConfigError, match=r"HTTP_PROXY: .* is no host name"):
        choose_proxy(Address.parse("http://api.test/v1"), {"http": f"http://{host}:3128"})


@pytest.mark.parametrize(
    "host", ["a", "a.b.", "x" * 63 + ".de", "127.0.0.1", "[::1]", "m\u00fcnchen.de"]
)
def test_a_host_name_that_resolvers_take_is_taken(host: str) -> None:
    assert Address.parse(f"http://{host}/v1").path == "/v1"
