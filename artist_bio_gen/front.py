"""What the look through an input found done, noted at a clean stop beside the ledger, so that the
next start need not look through these rows again.

Only rows whose artists are committed in this ledger are noted, for what is committed stays so. The
note counts for nothing once anybody has touched the input or the ledger's files, or when the input
is to be read in another way; and nothing of it is asked by a run that writes anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from artist_bio_gen.ledger.note import look_of, read_note
from artist_bio_gen.pending.look import Finished
from artist_bio_gen.pending.plan import DoneFront
from artist_bio_gen.sources.text.delimited import Place


class FrontNote:
    """To be made before the input is looked through, and before the ledger's head is written."""

    def __init__(self, ledger: Path, source: Path | None, read_as: Sequence[str]) -> None:
        """`source` is the input, None for one that can be read only once; `read_as` tells how it
        is read, and for what."""
        self._look = None if source is None else look_of(source)
        self._read_as = [*read_as]
        self._note = read_note(ledger)

    def done(self, ledger_id: str) -> DoneFront | None:
        """What was noted, if it is of this input, and of this ledger, of which it must be known
        that nobody has touched it."""
        if self._look is None or self._note is None or self._note.ledger != ledger_id:
            return None
        match self._note.done:
            case {
                "look": list(look),
                "read_as": list(read_as),
                "rows": [int(rows), int(changed), int(by_input), int(by_prompt)],
                "place": [int(offset), int(line)],
            } if look == self._look and read_as == self._read_as and rows > 0:
                return DoneFront(Finished(rows, changed, by_input, by_prompt), Place(offset, line))
        return None

    def to_note(self, done: DoneFront | None) -> Mapping[str, object] | None:
        """For the ledger's head."""
        if done is None or self._look is None:
            return None
        rows = done.finished
        return {
            "look": self._look,
            "read_as": self._read_as,
            "rows": [rows.rows, rows.changed, rows.changed_input, rows.changed_prompt],
            "place": [done.place.offset, done.place.line],
        }
