#!/usr/bin/env python3
"""The bare loop that `throughput.py` compares with: aiohttp on asyncio's own loop, and no promise.

Tasks post the same requests as the obvious script, read each reply and throw it away: no database,
no ledger, no fsync, no retry. Each reply adds a line feed to the output, written now and then, so
that the growth of that file tells the rate, as it does with the other programs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import aiohttp
from _request import body

WRITE_EVERY_S = 0.02


class Count:
    """Replies, as line feeds in a file."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._new = 0

    def one(self) -> None:
        self._new += 1

    def write(self) -> None:
        self._output.write(b"\n" * self._new)
        self._new = 0

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self.write()


async def work(
    session: aiohttp.ClientSession,
    artists: Iterator[dict[str, str]],
    count: Count,
    options: argparse.Namespace,
) -> None:
    path = "/responses" if options.api == "responses" else "/chat/completions"
    for artist in artists:
        request = body(options.api, options.model, artist)
        async with session.post(f"{options.base_url}{path}", json=request) as response:
            response.raise_for_status()
            await response.json()
        count.one()


async def run(options: argparse.Namespace) -> None:
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    with (
        options.input.open(newline="", encoding="utf-8") as rows,
        options.output.open("ab", buffering=0) as output,
    ):
        artists, count = csv.DictReader(rows), Count(output)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            writing = asyncio.create_task(count.keep_writing())
            tasks = [work(session, artists, count, options) for _ in range(options.workers)]
            await asyncio.gather(*tasks)
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
            count.write()


def main(arguments: Sequence[str] | None = None) -> None:
    asyncio.run(run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="CSV with id and name")
    parser.add_argument("--output", type=Path, required=True, help="a line feed for each reply")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--api", choices=("responses", "chat"), default="responses")
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=16)
    return parser


if __name__ == "__main__":
    main()
