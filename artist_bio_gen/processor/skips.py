"""Telling of skipped artists: those of a kind that may be millions are counted, others named."""

from __future__ import annotations

from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Skipped, SkipReason

COUNTED: tuple[SkipReason, ...] = ("done", "elsewhere", "has_bio", "left")

TELL_EVERY = 1000


class SkipTally:
    """Serves one thread."""

    def __init__(self, run: str, telemetry: Telemetry) -> None:
        self._run = run
        self._telemetry = telemetry
        self._counts: dict[SkipReason, list[int]] = {}
        self._untold = 0

    def add(self, skipped: Skipped) -> None:
        if skipped.reason not in COUNTED:
            self._telemetry.emit(
                "skipped",
                run=self._run,
                artist_id=skipped.artist.id,
                artist_name=skipped.artist.name,
                reason=skipped.reason,
                count=1,
            )
            return
        self.add_many(skipped.reason, 1, skipped.changed_input, skipped.changed_prompt)

    def add_many(
        self, reason: SkipReason, rows: int, changed_input: int, changed_prompt: int
    ) -> None:
        """Of a kind that is counted."""
        count = self._counts.setdefault(reason, [0, 0, 0])
        count[0] += rows
        count[1] += changed_input
        count[2] += changed_prompt
        self._untold += rows
        if self._untold >= TELL_EVERY:
            self.tell()

    def tell(self) -> None:
        """Tells what was counted since it was told last."""
        for reason, (count, changed_input, changed_prompt) in self._counts.items():
            self._telemetry.emit(
                "skipped",
                run=self._run,
                reason=reason,
                count=count,
                changed_input=changed_input,
                changed_prompt=changed_prompt,
            )
        self._counts.clear()
        self._untold = 0
