#!/usr/bin/env python3
"""The plain script that `throughput.py` compares with: what a good engineer writes in an hour.

Threads call the API through the synchronous `openai` client and store each bio as it arrives,
one at a time, with one commit and one fsync. It can be started again after a crash: ids that
stand in the output are left out. It promises no more than that.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import psycopg
from _request import body

TABLE = "create table if not exists artists (id text primary key, name text not null, bio text)"
UPSERT = """\
insert into artists (id, name, bio) values (%(id)s, %(name)s, %(bio)s)
on conflict (id) do update set bio = excluded.bio"""


def write_bio(
    client: openai.OpenAI, api: str, model: str, artist: dict[str, str]
) -> dict[str, str]:
    request = body(api, model, artist)
    if api == "responses":
        response = client.responses.create(**request)
        text, call = response.output_text, response.id
    else:
        completion = client.chat.completions.create(**request)
        text, call = completion.choices[0].message.content or "", completion.id
    if not text:
        raise ValueError(f"no bio for artist {artist['id']}")
    return {"id": artist["id"], "name": artist["name"], "bio": text, "response_id": call}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    done = set()
    if options.output.exists():
        with options.output.open(encoding="utf-8") as lines:
            done = {json.loads(line)["id"] for line in lines}
    with options.input.open(newline="", encoding="utf-8") as rows:
        artists = [row for row in csv.DictReader(rows) if row["id"] not in done]
    client = openai.OpenAI(base_url=options.base_url, max_retries=5)
    alone = threading.Lock()
    with (
        psycopg.connect(options.database_url) as database,
        options.output.open("a", encoding="utf-8") as ledger,
        ThreadPoolExecutor(options.workers) as pool,
    ):
        database.execute(TABLE)
        database.commit()

        def finish(artist: dict[str, str]) -> None:
            bio = write_bio(client, options.api, options.model, artist)
            with alone:
                database.execute(UPSERT, bio)
                database.commit()
                ledger.write(json.dumps(bio, ensure_ascii=False) + "\n")
                ledger.flush()
                os.fsync(ledger.fileno())

        for _ in pool.map(finish, artists):
            pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="CSV with id and name")
    parser.add_argument("--output", type=Path, required=True, help="JSONL, appended to")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--api", choices=("responses", "chat"), default="responses")
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=16)
    return parser


if __name__ == "__main__":
    main()
