"""Files that lie elsewhere: at a web address, or in an object store."""

from __future__ import annotations

from collections.abc import Callable

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.sources.content import Content

WEB = ("http", "https")


def fetch(address: str, options: SourceOptions, cancelled: Callable[[], bool]) -> list[Content]:
    """What is there: one file at a web address, perhaps several in an object store, where a
    pattern may be given. InputError when there is none, UsageError for an address of another
    kind, StoppedError when it is `cancelled` meanwhile."""
    if address.partition("://")[0].lower() in WEB:
        from artist_bio_gen.sources.places.web import download

        return [download(address, options, cancelled)]
    from artist_bio_gen.sources.places.objects import objects

    return objects(address, options, cancelled)
