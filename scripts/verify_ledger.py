#!/usr/bin/env python3
"""Checks a ledger by its description in docs/ledger.md, with Python's own library alone.
Prints OK with the last line's number and hash, or the first thing that is wrong; exits 0 or 5."""

import argparse
import json
import re
from hashlib import sha256
from pathlib import Path

LINE = rb'(\{.*,"ledger":"([^"]*)","run":"[^"]*","seq":(\d+),.*,"prev":"(\w+)"),"hash":"(\w+)"\}\n'


def lines(path):
    """(byte, line, (ledger, number, prev, hash) or None where the line is not whole) of each."""
    with path.open("rb") as file:
        while line := file.readline(1 << 28):
            m = re.fullmatch(LINE, line)
            whole = m and sha256(m[1]).hexdigest().encode() == m[5]
            yield file.tell() - len(line), line, (m[2], int(m[3]), m[4], m[5]) if whole else None


def check(ledger, expected=""):
    """Number and hash of the last line. ValueError tells what is wrong first."""
    head = ledger.with_name(f"{ledger.name}.head")
    noted = json.loads(head.read_bytes()) if head.exists() else {"ledger": "", "seq": 0, "hash": ""}
    told = (noted["seq"], noted["hash"]), expected.rpartition(":")[::2]
    heads = {(int(number or -1), digest.encode()) for number, digest in told if digest}
    name = re.compile(re.escape(ledger.stem) + r"\.([0-9]{4,})" + re.escape(ledger.suffix))
    named = {int(m[1]): p for p in ledger.parent.iterdir() if (m := name.fullmatch(p.name))}
    owner, files = noted["ledger"].encode(), []  # a file, and the number of its first line
    for path in [ledger, *(named[number] for number in sorted(named) if number)]:
        n, first = next(((n, said) for n, (*_, said) in enumerate(lines(path)) if said), (0, None))
        owner = first[0] if first and (path == ledger or not owner) else owner
        looks_like_one = re.search(rb'"(ledger|hash)":"', next(lines(path), (0, b""))[1])
        if path == ledger or (first[0] == owner if first else looks_like_one):
            files.append((path, first[1] - n if first else 0))
    seq, last = 0, sha256(owner).hexdigest().encode()
    for (path, _), (_, following) in zip(files, [*files[1:], (None, None)], strict=True):
        for at, _, said in lines(path):
            heads -= {(seq, last), (-1, last)}
            if seq + 1 == following:
                break  # the rest is superseded by the next file
            if not said or said[:3] != (owner, seq + 1, last):
                raise ValueError(f"{path}: byte {at}: line {seq + 1} is damaged, torn or missing")
            seq, last = seq + 1, said[3]
    if heads := heads - {(seq, last), (-1, last)}:
        raise ValueError(f"{ledger}: ends with line {seq}, without the line of a head: {heads}")
    return seq, last.decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--expect-head", metavar="NUMBER:HASH", default="", help="must be there")
    try:
        print("OK: line {}, {}".format(*check(*vars(parser.parse_args()).values())))
    except (ValueError, LookupError, TypeError, OSError) as wrong:
        raise SystemExit(print(wrong) or 5) from None
