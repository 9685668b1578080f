"""Which columns hold an artist's id and name: those that are named, or those that are guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from artist_bio_gen.errors import UsageError

ID_NAMES = ("id", "artist_id", "uuid", "artist_uuid", "guid")
NAME_NAMES = ("name", "artist_name", "display_name", "full_name", "artist")


def find_id(columns: Sequence[str], given: str | None = None, *, but: str | None = None) -> str:
    """The name of the column with the id: the `given` one, or the only one that looks like it, and
    is not the one that was given for the name (`but`). Columns of a source without a header
    ("1", "2", …) are taken in their order. UsageError."""
    candidates = [each for each in columns[:1] if each != but] if _numbered(columns) else ID_NAMES
    return _find(columns, "id", "--id-column", given, candidates)


def find_name(columns: Sequence[str], given: str | None = None, *, but: str | None = None) -> str:
    """As `find_id`, of the name."""
    candidates = (
        [each for each in columns[1:2] if each != but] if _numbered(columns) else NAME_NAMES
    )
    return _find(columns, "name", "--name-column", given, candidates)


def require_column(columns: Sequence[str], name: str, flag: str) -> str:
    if name not in columns:
        raise UsageError(f"{flag} {name}: there is no such column; there are {listed(columns)}")
    return name


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _numbered(columns: Sequence[str]) -> bool:
    return [*columns] == [str(at) for at in range(1, len(columns) + 1)]


def _find(
    columns: Sequence[str], what: str, flag: str, given: str | None, candidates: Sequence[str]
) -> str:
    if given is not None:
        return require_column(columns, given, flag)
    found = [name for name in columns if name in candidates]
    if not found:
        folded = {_fold(candidate) for candidate in candidates}
        found = [name for name in columns if _fold(name) in folded]
    if len(found) == 1:
        return found[0]
    if found:
        problem = f"{listed(found)} may each hold the artist's {what}"
    else:
        problem = f"no column is known to hold the artist's {what}"
    hint = "; is the file separated by commas?" if len(columns) == 1 else ""
    raise UsageError(f"{problem}; say which with {flag}; there are {listed(columns)}{hint}")


def _fold(name: str) -> str:
    """Artist ID, artist-id and ArtistID are all artist_id."""
    return "".join(filter(str.isalnum, name)).casefold()
