"""What was committed, read by number some thousands at a time: where an input stands in nearly the
order in which it was worked off, the next of these are its next rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Final, Literal, Self, TypeAlias

from artist_bio_gen.database.store import BioStore, Page

PAGE = 2_500
"""Commit rows read at a time."""

MOST = 40_000
"""Commit rows that wait for their artist; each takes some 300 bytes."""

_LONGEST_REST = 64
_SHA256 = 64

Match: TypeAlias = Literal[0, 1, 2, 3]
"""Of a finished artist: what has changed since its bio was written."""

UNCHANGED: Final = 0
OTHER_INPUT: Final = 1
OTHER_PROMPT: Final = 2
OTHER_BOTH: Final = 3


class Nearby:
    """Finds finished artists among commit rows that stand near each other. An artist that is not
    found may be finished nevertheless: `follow` is told where such artists were, so that it goes on
    there. It has `store` to itself until it is left. `one_bio_each` may be said only of a ledger in
    which no artist has two."""

    def __init__(
        self,
        store: BioStore,
        ledger: str,
        prompt_sha256: str,
        *,
        one_bio_each: bool,
        page: int = PAGE,
        most: int = MOST,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._prompt = prompt_sha256
        self._one_bio_each = one_bio_each
        self._page = page
        self._ahead_of = page // 2  # so that what is not quite in order is found at once
        self._most = most
        # Of each artist the fingerprint of its input, with a mark behind it where the prompt was
        # another one.
        self._waiting: dict[str, str] = {}
        self._seq = 0  # of the last row that was read
        self._ended = False
        self._rest = self._longer_rest = 0  # lookings that it is not followed
        # The server gathers the next page while this one is looked through.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="nearby")
        self._ahead: Future[Page] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def find(self, ids: Sequence[str], fingerprints: Sequence[str | None]) -> list[Match | None]:
        """Of each artist, by its input's fingerprint; None where it is not found, or without a
        fingerprint."""
        while len(self._waiting) < len(ids) + self._ahead_of and not self._ended:
            self._read()
        there = list(map(self._waiting.pop, ids, repeat(None)))
        if there == fingerprints and None not in there:
            return [UNCHANGED] * len(ids)
        found = [*map(_match, there, fingerprints)]
        missing = [
            index
            for index, fingerprint in enumerate(fingerprints)
            if there[index] is None and fingerprint is not None
        ]
        while missing and not self._ended and len(self._waiting) < self._most:
            self._read()
            still: list[int] = []
            for index in missing:
                found[index] = _match(self._waiting.pop(ids[index], None), fingerprints[index])
                if found[index] is None:
                    still.append(index)
            if len(still) == len(missing):
                break
            missing = still
        return found

    def follow(self, asked: int, seqs: Sequence[int]) -> None:
        """Of so many artists it was asked for, these commit rows were found elsewhere."""
        if 2 * len(seqs) < asked:
            self._longer_rest = 0
        elif self._rest > 0:
            self._rest -= 1
        else:
            # Some stand far from all others, as a call that was tried again does.
            self._seq = sorted(seqs)[len(seqs) // 10] - 1
            self._waiting.clear()
            self._ended = False
            self._ahead = None
            # Where there is no order in it, looking for one only costs.
            self._rest = self._longer_rest
            self._longer_rest = min(_LONGEST_REST, 2 * self._longer_rest + 1)

    def _read(self) -> None:
        ahead = self._ahead or self._ask(self._seq)
        self._ahead = None
        page = ahead.result()
        self._waiting.update(zip(page.ids, page.fingerprints, strict=True))
        self._seq = page.last_seq
        self._ended = page.rows < self._page
        if not self._ended:
            self._ahead = self._ask(self._seq)

    def _ask(self, after: int) -> Future[Page]:
        return self._reader.submit(
            self._store.page_of_commits,
            self._ledger,
            after=after,
            limit=self._page,
            prompt_sha256=self._prompt,
            one_bio_each=self._one_bio_each,
        )


def _match(there: str | None, fingerprint: str | None) -> Match | None:
    if there is None or fingerprint is None:
        return None
    same_input, same_prompt = there[:_SHA256] == fingerprint, len(there) == _SHA256
    if same_input:
        return UNCHANGED if same_prompt else OTHER_PROMPT
    return OTHER_INPUT if same_prompt else OTHER_BOTH
