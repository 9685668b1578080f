#!/usr/bin/env python3
"""How throughput and memory of artist-bio-gen change with the rows and with the tables' size.

Three measurements, each of its own; the runs of different sizes take turns, round by round:

  rows      rows a second of the steady part, at one latency and number of workers, by the
            number of rows; each run with an empty database
  table     the same with few rows, once with empty tables and once with --table-rows artists
            who have their bios already, and as many commits of another ledger
  memory    the highest memory by the number of rows, without latency; PSS as it was sampled,
            RSS by high-water marks, children included

The steady part lies between 10 % and 90 % of the ledger's size. A run counts only when it ended
with 0 and database, ledger and answered calls hold each row exactly once. 10,000,000 rows in the
tables take some 20 GB of disk below --dir. Arguments after `--` go to artist-bio-gen as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import _harness as harness  # also puts the repository on the path
from _report import Report, numbers, parser, produce, say
from _runs import Bench, Catalogue, Cell, Figures, middle

OTHER_LEDGER = "11111111-1111-4111-8111-111111111111"
OTHER_RUN = "22222222-2222-4222-8222-222222222222"
AT_A_TIME = 500_000  # rows of one statement, so that it can be seen how far it is
BIO_BYTES = 400

ARTISTS = """\
insert into artists (id, name, bio)
select md5(n::text)::uuid::text, 'Another Artist ' || n, rpad(n || '. ', %(bytes)s, 'Sang. ')
from generate_series(%(first)s::bigint, %(last)s::bigint) n"""
COMMITS = """\
insert into artist_bio_gen.commits
    (ledger, seq, run, artist_id, generation, input_sha256, prompt_sha256, hash, line)
select %(ledger)s, n, %(run)s, md5(n::text)::uuid::text, 1, repeat('6', 64), repeat('5', 64),
    md5(n::text) || md5(n::text), rpad('{"seq":' || n || ',"text":"', %(bytes)s, 'Sang. ') || '"}'
from generate_series(%(first)s::bigint, %(last)s::bigint) n"""


def fill(database: str, rows: int, line_bytes: int) -> Catalogue:
    """Tables as a program that has done so many artists leaves them. Ids are spread as those of
    a catalogue are. The lines only have the size of real ones: nothing reads them."""
    import psycopg

    from artist_bio_gen.database.migrate import migrate

    migrate(database, table="artists")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        for first in range(1, rows + 1, AT_A_TIME):
            part = {"first": first, "last": min(first + AT_A_TIME - 1, rows)}
            connection.execute(ARTISTS, {**part, "bytes": BIO_BYTES})
            names = {"ledger": OTHER_LEDGER, "run": OTHER_RUN}
            connection.execute(COMMITS, {**part, **names, "bytes": line_bytes})
            say(f"filled: {part['last']:,} of {rows:,} rows")
        connection.execute(
            "insert into artist_bio_gen.heads (ledger, seq, hash, path, host, table_name)"
            " values (%s, %s, '', '', '', 'public.artists')",
            [OTHER_LEDGER, rows],
        )
        connection.execute(
            "insert into artist_bio_gen.runs (run, ledger, host, pid, version, settings)"
            " values (%s, %s, '', 0, '', '{}')",
            [OTHER_RUN, OTHER_LEDGER],
        )
        # Frozen, or Postgres would do it by itself during the runs that are measured.
        connection.execute("vacuum (freeze, analyze)")
        connection.execute("checkpoint")
    return Catalogue(database, bios=rows)


def by_rows(bench: Bench, options: argparse.Namespace) -> list[Figures]:
    cell = Cell(options.latency, options.workers)
    return [
        bench.run("artist-bio-gen", cell, rows)
        for _ in range(options.rounds)
        for rows in options.rows
    ]


def by_table(bench: Bench, options: argparse.Namespace) -> list[Figures]:
    cell = Cell(options.latency, options.workers)
    results = []
    with bench.place.database() as database:
        full = fill(database, options.table_rows, options.line_bytes)
        for _ in range(options.rounds):
            results.append(bench.run("artist-bio-gen", cell, options.rows_each))
            results.append(bench.run("artist-bio-gen", cell, options.rows_each, full))
    return results


def memory(bench: Bench, options: argparse.Namespace) -> list[Figures]:
    cell = Cell(0, options.workers)
    return [
        bench.run("artist-bio-gen", cell, rows)
        for _ in range(options.rounds)
        for rows in options.memory_rows
    ]


Key = Callable[[Figures], int]


def _rows(figures: Figures) -> int:
    return figures.rows


def _table(figures: Figures) -> int:
    """0 or 1: the full table grows a little with each run."""
    return int(figures.table_rows > 0)


def _by(results: Sequence[Figures], key: Key) -> list[list[Figures]]:
    """The runs of one size together, the smallest size first."""
    sizes = sorted({key(each) for each in results})
    return [[each for each in results if key(each) == size] for size in sizes]


def rate_table(results: Sequence[Figures], key: Key) -> Iterator[str]:
    yield (
        "| latency | workers | rows | in the tables before | runs | rows/s | to the first | limit "
        "| CPU ms |"
    )
    yield "|" + " --- |" * 9
    sizes = [(middle(runs), len(runs)) for runs in _by(results, key)]
    for figures, runs in sizes:
        share = figures.share_of_limit
        yield (
            f"| {figures.latency_ms:g} ms | {figures.workers} | {figures.rows:,} "
            f"| {figures.table_rows:,} | {runs} | {figures.steady_rate:,.0f} "
            f"| {figures.steady_rate / sizes[0][0].steady_rate:.2f} "
            f"| {'' if share is None else f'{share:.2f}'} | {figures.steady_cpu_ms:.2f} |"
        )


def rate_kept(results: Sequence[Figures], key: Key) -> float:
    """The lowest rate of the larger sizes, by that of the smallest."""
    first, *others = (middle(runs).steady_rate for runs in _by(results, key))
    return min(others, default=first) / first


def memory_table(results: Sequence[Figures]) -> Iterator[str]:
    yield (
        "| workers | rows | runs | PSS MiB | to the first | RSS MiB | to the first | rows/s "
        "| CPU ms |"
    )
    yield "|" + " --- |" * 9
    sizes = [(_highest(runs), len(runs), middle(runs)) for runs in _by(results, _rows)]
    (first_pss, first_rss), _, _ = sizes[0]
    for (pss, rss), runs, figures in sizes:
        yield (
            f"| {figures.workers} | {figures.rows:,} | {runs} "
            f"| {pss:.1f} | {pss / first_pss:.2f} | {rss:.1f} | {rss / first_rss:.2f} "
            f"| {figures.steady_rate:,.0f} | {figures.steady_cpu_ms:.2f} |"
        )


def memory_growth(results: Sequence[Figures]) -> float:
    """The highest memory (RSS) of any size, by that of the smallest."""
    sizes = [_highest(runs)[1] for runs in _by(results, _rows)]
    return max(sizes) / sizes[0]


def _highest(runs: Sequence[Figures]) -> tuple[float, float]:
    return max(each.pss_mib for each in runs), max(each.rss_mib for each in runs)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def work(place: harness.Workbench) -> Report:
        bench = Bench(place, "responses", options.program, options.extra, options.words)
        if options.what == "memory":
            results = memory(bench, options)
            measures = {"growth.memory": memory_growth(results)}
            return Report(list(memory_table(results)), results, measures)
        key = _rows if options.what == "rows" else _table
        results = (by_rows if options.what == "rows" else by_table)(bench, options)
        measures = {f"growth.{options.what}": rate_kept(results, key)}
        return Report(list(rate_table(results, key)), results, measures)

    return produce("growth.py", options, work)


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("what", choices=("rows", "table", "memory"), help="what is measured")
    made.add_argument(
        "--rows",
        type=numbers,
        default=[10_000, 100_000, 1_000_000],
        help="of `rows`, with commas (default: 10000,100000,1000000)",
    )
    made.add_argument(
        "--table-rows",
        type=int,
        default=10_000_000,
        help="of `table`: in the full tables beforehand (default: 10000000)",
    )
    made.add_argument(
        "--rows-each",
        type=int,
        default=30_000,
        help="of `table`: rows of each run (default: 30000)",
    )
    made.add_argument(
        "--line-bytes", type=int, default=1024, help="of `table`: of a commit (default: 1024)"
    )
    made.add_argument(
        "--memory-rows",
        type=numbers,
        default=[10_000, 100_000, 1_000_000],
        help="of `memory`, with commas (default: 10000,100000,1000000)",
    )
    made.add_argument(
        "--latency",
        type=float,
        default=50.0,
        help="ms of the fake API for `rows` and `table` (default: 50)",
    )
    made.add_argument("--workers", type=int, default=64, help="(default: 64)")
    made.add_argument("--rounds", type=int, default=1, help="runs of each size (default: 1)")
    made.add_argument("--words", type=int, default=60, help="of a bio (default: 60)")
    made.add_argument("extra", nargs="*", help="options for artist-bio-gen, after --")
    return made


if __name__ == "__main__":
    sys.exit(main())
