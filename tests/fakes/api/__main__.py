"""`python -m tests.fakes.api`: the fake as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .behaviour import Behaviour, Plan
from .server import Connection, Server
from .tally import Tally

BACKLOG = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    changes = {name: options[name] for name in _names() if options[name] is not None}
    try:
        plan = Plan(Behaviour().changed(changes))
    except ValueError as exc:
        parser.error(str(exc))
    tally = Tally(log=options["log"], keep=options["keep"], count_artists=True)
    server = Server(plan, tally)
    serving = _serve(server, options["host"], options["port"], options["until_stdin_closes"])
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    try:
        run(serving)
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(server: Server, host: str, port: int, until_stdin_closes: bool) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Connection(server, loop), host, port, backlog=BACKLOG
    )
    address = listening.sockets[0].getsockname()
    told = {"pid": os.getpid(), "host": address[0], "port": address[1]}
    print(json.dumps(told), flush=True)
    if until_stdin_closes:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
    else:
        await asyncio.Event().wait()


def _names() -> list[str]:
    return [option.name for option in dataclasses.fields(Behaviour)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.api",
        description="A fake of the model's API on loopback. Prints its address as one JSON line.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="append one JSON line a call, as it ends")
    parser.add_argument("--keep", type=int, default=100, help="requests kept for /_/requests")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started it"
    )
    for option in dataclasses.fields(Behaviour):
        flag = f"--{option.name.replace('_', '-')}"
        text = f"{option.metadata['help']} (default: {option.default!r})".replace("%", "%%")
        how: dict[str, Any] = {"help": text, "default": None}
        if isinstance(option.default, bool):
            how["action"] = argparse.BooleanOptionalAction
        parser.add_argument(flag, **how)
    return parser


if __name__ == "__main__":
    sys.exit(main())
