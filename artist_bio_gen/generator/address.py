"""Where the model's API is, and the way there: base address, proxy, trust, headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from artist_bio_gen import __version__
from artist_bio_gen.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    import ssl

USER_AGENT = f"artist-bio-gen/{__version__}"


@dataclass(frozen=True, slots=True)
class Address:
    """A base address, taken apart. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, setting: str = "--base-url") -> Address:
        """ConfigError when it cannot be the base of an API."""
        shown = f"{setting} {url.rpartition('@')[2]!r}"  # without a password
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigError(f"{shown}: {exc}; give http(s)://host[:port]/v1") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{shown}: is no address; give http(s)://host[:port]/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError(
                f"{setting}: an address with a user name, a query or a fragment is not supported "
                f"(host {host}); a key is given with OPENAI_API_KEY"
            )
        try:
            host = host if host.isascii() else host.encode("idna").decode()
            _require_labels(host)
        except UnicodeError as exc:
            raise ConfigError(f"{shown}: {host!r} is no host name ({exc})") from exc
        default = 443 if parts.scheme == "https" else 80
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        return cls(parts.scheme, host, default if port is None else port, path)

    @property
    def authority(self) -> str:
        """As the Host header has it: a usual port is left out, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """As CONNECT wants it: always with a port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where calls go first. `credentials` is the value of Proxy-Authorization."""

    host: str
    port: int
    credentials: str | None = None


def choose_proxy(address: Address, proxies: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for an address.

    `proxies` is what they say, by lower-case scheme, `no` included; None asks the environment.
    Calls to this machine itself never go through a proxy, which could not reach it.
    """
    if address.is_loopback:
        return None
    if proxies is None:
        from urllib.request import getproxies_environment

        proxies = getproxies_environment()
    url = proxies.get(address.scheme) or proxies.get("all")
    if not url or _exempt(address, proxies.get("no", "")):
        return None
    setting = f"{address.scheme.upper()}_PROXY"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError(f"{setting}: is no address ({exc}); give http://host:port") from exc
    try:
        (host or "").encode("idna")  # as the system's resolver will be asked
    except UnicodeError as exc:
        raise ConfigError(f"{setting}: {host!r} is no host name ({exc})") from exc
    if parts.scheme != "http" or not host:
        raise ConfigError(
            f"{setting}: {parts.scheme}://{host or ''} is not supported; give an http:// proxy "
            f"(TLS is tunnelled through it), or set NO_PROXY={address.host}"
        )
    credentials = None
    if parts.username is not None:
        from base64 import b64encode

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + b64encode(pair.encode("utf-8", "surrogateescape")).decode()
    return Proxy(host, port or 80, credentials)


def _require_labels(host: str) -> None:
    """UnicodeError, as encoding it raises, for a name that no resolver takes (RFC 1035, 2.3.4)."""
    if ":" not in host:
        host.encode("idna")


def _exempt(address: Address, no_proxy: str) -> bool:
    """NO_PROXY as curl and Go read it: `*`, a host, a domain with all below it, host:port, or
    a network such as 10.0.0.0/8."""
    for entry in no_proxy.lower().split(","):
        name = entry.strip().removeprefix("*.").removeprefix(".")
        if name and (
            name in ("*", address.host, f"{address.host}:{address.port}")
            or address.host.endswith(f".{name}")
            or _within(address.host, name)
        ):
            return True
    return False


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def tls_context() -> ssl.SSLContext:
    """Verifies against the system's store (or SSL_CERT_FILE, SSL_CERT_DIR)."""
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def unreachable(address: Address, proxy: Proxy | None, why: object) -> Unavailable:
    """No connection came about."""
    via = f" through the proxy {proxy.host}:{proxy.port}" if proxy else ""
    return Unavailable(f"{address.authority}: cannot be reached{via}: {why}", kind="unreachable")


def tunnel_refused(address: Address, proxy: Proxy, answer: object) -> ConfigError | Unavailable:
    """The proxy answers a CONNECT with `answer`, which begins with its status."""
    if str(answer).startswith("4"):
        return ConfigError(
            f"the proxy {proxy.host}:{proxy.port} refuses {address.endpoint}: {answer}; check "
            "HTTPS_PROXY with its user and password, or name the host in NO_PROXY"
        )
    return unreachable(address, proxy, f"the proxy answers {answer}")


def untrusted(address: Address, exc: Exception) -> ConfigError:
    reason = getattr(exc, "verify_message", None) or str(exc)
    return ConfigError(
        f"{address.host}: its certificate is not trusted ({reason}); if it is signed by an "
        "authority of your own, name that one's file in SSL_CERT_FILE"
    )


def header_lines(headers: Iterable[tuple[str, str]]) -> str:
    """ConfigError when a value would end its header and begin another."""
    lines = []
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(
                f"{name}: the value has a line break or another character that no header may "
                "hold; check the setting it comes from"
            )
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)
