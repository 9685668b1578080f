"""Files in an object store, read in blocks: nothing is held open between two of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.masking import mask_address
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.sockets import Patience

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

STORES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("oci", "ocilake"), "ocifs"),
    "oss": "ossfs",
}
"""Schemes of addresses that name no host: where the store is, its own settings say. With them,
the package that fsspec takes for it."""

MOST_ATTEMPTS = 5

_BLOCK = 4 * 1024 * 1024
_FIRST_PAUSE_S = 0.5
_MAGIC = "*?["
_MOST_WAIT_S = 60.0


def objects(
    address: str,
    options: SourceOptions,
    cancelled: Callable[[], bool],
    *,
    pause: Callable[[float], None] | None = None,
) -> list[Content]:
    """The file at this address, or those that fit a pattern, in the order of their names. What
    else fsspec knows is read with --allow-private only: it goes to any host, unchecked."""
    name = mask_address(address)
    patience = Patience(options.query_timeout or _MOST_WAIT_S, cancelled)
    scheme, _, rest = address.partition("://")
    if scheme in STORES:
        _require_no_keys(scheme, rest)
    store = _store(address, name, options, patience.seconds)
    path = store._strip_protocol(address)
    try:
        found = _found(store, path)
    except _faults() as exc:
        raise InputError(f"{name}: cannot be reached: {_reason(exc)}; {_hint(exc)}") from exc
    if not found:
        what = "nothing fits this pattern" if _is_pattern(path) else "there is no such file"
        raise InputError(f"{name}: {what}; check the address")
    return [
        _content(store, about, f"{scheme}://{about['name']}", patience, pause or patience.pause)
        for about in found
    ]


def _require_no_keys(scheme: str, rest: str) -> None:
    """Names of buckets have no colon but in an ARN. What came of it would show the keys."""
    if "@" in rest and ":" in rest.partition("/")[0] and not rest.startswith("arn:"):
        bucket = rest.rpartition("@")[2].partition("/")[0]
        raise UsageError(
            f"{scheme}://***@{bucket}: keys are not taken from an address; set them as the store's"
            " own tools want them (AWS_ACCESS_KEY_ID, …)"
        )


def _store(address: str, name: str, options: SourceOptions, seconds: float) -> Any:
    scheme = address.partition("://")[0]
    if "::" in address:
        raise UsageError(f"{name}: addresses within each other are not read; give the file's own")
    if scheme not in STORES:
        _require_known(scheme, name, options)
    fsspec = require("fsspec", extra="s3", what=f"{scheme}://")
    # Not one that was made before: keys and endpoint may be others now.
    more: dict[str, Any] = {"skip_instance_cache": True}
    if STORES.get(scheme) == "s3fs":
        require("s3fs", extra="s3", what=f"{scheme}://")
        limits = {"connect_timeout": seconds, "read_timeout": seconds}
        more |= {"config_kwargs": limits, "use_listings_cache": False}
    try:
        store, _ = fsspec.core.url_to_fs(address, **more)
    except ImportError as exc:
        package = STORES.get(scheme, "")
        way_out = f"pip install {package}" if package else str(exc)
        raise ConfigError(f"{scheme}:// needs a package that is not installed; {way_out}") from exc
    except (ValueError, TypeError) as exc:
        raise UsageError(
            f"{name}: is no address of a file ({exc}); it looks like s3://bucket/artists.csv"
        ) from exc
    if STORES.get(scheme) == "s3fs":
        store.retries = 1  # what fails is asked for again here
    return store


def _require_known(scheme: str, name: str, options: SourceOptions) -> None:
    fsspec = require("fsspec", extra="s3", what=f"{scheme}://")
    known = scheme in fsspec.available_protocols()
    if known and options.allow_private:
        return
    hint = (
        "; it may lead to any host, so if that is meant, add --allow-private"
        if known
        else f"; what is known: http, https, {', '.join(STORES)}, databases"
    )
    raise UsageError(f"{name}: {scheme}:// is not read{hint}")


def _is_pattern(path: str) -> bool:
    return any(sign in path for sign in _MAGIC)


def _found(store: Any, path: str) -> list[dict[str, Any]]:
    """What the store tells of each file, in the order of their names."""
    try:
        about = store.info(path)
        return [about] if about["type"] == "file" else []
    except FileNotFoundError:
        if not _is_pattern(path):
            return []
    matches = store.glob(path, detail=True)
    return [matches[each] for each in sorted(matches) if matches[each]["type"] == "file"]


def _content(
    store: Any,
    about: dict[str, Any],
    name: str,
    patience: Patience,
    pause: Callable[[float], None],
) -> Content:
    size = about.get("size")
    return Content(
        name=mask_address(name),
        file_name=str(about["name"]).rstrip("/").rpartition("/")[2],
        open=partial(_open, store, str(about["name"]), mask_address(name), patience, pause),
        again=True,
        size=None if size is None else int(size),
        packed_size=None if size is None else int(size),
    )


def _open(
    store: Any, path: str, name: str, patience: Patience, pause: Callable[[float], None]
) -> io.BufferedReader[Any]:
    return io.BufferedReader(_Object(store, path, name, patience, pause), 256 * 1024)


class _Object(io.RawIOBase):
    """One file of a store. A block that does not come is asked for again."""

    def __init__(
        self,
        store: Any,
        path: str,
        name: str,
        patience: Patience,
        pause: Callable[[float], None],
    ) -> None:
        self._name = name
        self._patience = patience
        self._pause = pause
        try:
            self._file = store.open(path, "rb", block_size=_BLOCK, cache_type="readahead")
        except _faults() as exc:
            raise InputError(f"{name}: cannot be opened: {_reason(exc)}; {_hint(exc)}") from exc

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        at = self._file.tell()
        for attempt in range(MOST_ATTEMPTS):
            if self._patience.cancelled():
                raise StoppedError
            try:
                data = self._file.read(len(view))
            except _faults() as exc:
                if _is_final(exc) or attempt + 1 == MOST_ATTEMPTS:
                    raise self._cut_off(exc, at) from exc
                self._pause(_FIRST_PAUSE_S * 2**attempt)
                self._file.seek(at)
            else:
                view[: len(data)] = data
                return len(data)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
        super().close()

    def _cut_off(self, exc: BaseException, at: int) -> InputError:
        return InputError(
            f"{self._name}: cannot be read on after {at:,} bytes ({_reason(exc)}); the rows so far"
            " stand. Try again, or fetch it yourself, and give the file"
        )


def _faults() -> tuple[type[Exception], ...]:
    """What stores raise: the system's errors, and those of the packages that are in use."""
    found: list[type[Exception]] = [OSError, TimeoutError]
    for module, names in (
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
        ("aiohttp", ("ClientError",)),
        ("fsspec.exceptions", ("FSTimeoutError", "BlocksizeMismatchError")),
    ):
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)


def _is_final(exc: BaseException) -> bool:
    """Whether another attempt would end in the same way."""
    return isinstance(exc, FileNotFoundError | PermissionError) or _is_changed(exc)


def _is_changed(exc: BaseException) -> bool:
    return type(exc).__name__ == "FileExpired"  # of s3fs, for another ETag


def _reason(exc: BaseException) -> str:
    if _is_changed(exc):
        return "the file has changed meanwhile"
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _hint(exc: BaseException) -> str:
    if isinstance(exc, PermissionError) or "Credentials" in type(exc).__name__:
        return (
            "the keys come from the store's own settings, for S3 AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY or a profile"
        )
    return "check the address, and AWS_ENDPOINT_URL if the store is one of your own"
