"""Odd files of CSV and its kin, as code: what is met in the field, and what is made to hurt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Odd:
    """`like_csv`: the csv module reads it as we do, its rows of another width left out."""

    data: bytes
    options: Mapping[str, Any] = field(default_factory=dict)
    like_csv: bool = True


def _rows(count: int, row: str = "{0},Artist {0},{1}\n") -> str:
    return "".join(row.format(number, 1900 + number % 100) for number in range(count))


def _text(text: str, *, like_csv: bool = True, **options: Any) -> Odd:
    return Odd(text.encode(), options, like_csv)


HEADER = "id,name,born\n"

ODD: Mapping[str, Odd] = {
    "plain": _text(HEADER + _rows(50)),
    "CR LF": _text((HEADER + _rows(50)).replace("\n", "\r\n")),
    "CR alone": _text((HEADER + _rows(50)).replace("\n", "\r")),
    "all line ends": _text("id,name,born\r\n1,a,b\n2,a,b\r3,a,b\r\n4,a,b\r\r\n5,a,b\n\r6,a,b"),
    "CR LF, then LF alone": _text("id,name\r\n1,a\r\n2,b\n3,c\n"),
    "no end of the last line": _text(HEADER + _rows(9) + "9,x,y"),
    "no rows": _text(HEADER),
    "no end of the header": _text("id,name,born"),
    "blank lines": _text(HEADER + _rows(3) + "\n\n" + _rows(3) + "\n \n\t\n" + _rows(1)),
    "one column": _text("name\nNina\n\nElla Fitzgerald\n  x \nFela\n"),
    "one column with white lines": _text("name\nNina\n   \nElla\n\t\nFela\n", like_csv=False),
    "one column, white within quotes": _text('name\nNina\n"   "\n""\nFela\n'),
    "one column with commas": _text("name\nSimone, Nina\nElla\n"),
    "quotes": _text('id,name\n1,"a"\n2,"b, c"\n3,"say ""oh"""\n4,""\n5,\n'),
    "quotes within cells": _text('id,name\n1,Ed "Duke" E\n2,5\'11"\n3,a""b\n'),
    "quotes in all cells": _text('"id","name"\n' + _rows(40, '"{0}","Artist, {0}"\n')),
    "cells of many lines": _text('id,name\n1,"a\nb"\n2,c\n3,"d\n\n\ne"\n4,f\n5,"\n"\n'),
    "cells of many lines with CR LF": _text('id,name\r\n1,"a\r\nb\nc\rd"\r\n2,c\r\n'),
    "a cell of many lines at the end": _text('id,name\n1,a\n2,"b\nc"'),
    "comments": _text("# by hand\nid,name\n1,a\n#2,b\n3,c\n # 4,d\n", like_csv=False),
    "comments and quotes": _text('id,name\n# "1,a\n2,"b, c"\n#\n3,"d"\n', like_csv=False),
    "no comment within a cell": _text('id,name\n1,"a\n# b\nc"\n2,#d\n', like_csv=False),
    "a comment among cells of many lines": _text(
        'id,name\n1,"a\nb"\n# c\n2,"d\n# e\nf"\n', like_csv=False
    ),
    "comments of two letters": _text("id,name\n// x\n/1,a\n2,//b\n", like_csv=False, comment="//"),
    "CR before a comment": _text("id,name\r#1,a\r2,b\r", like_csv=False),
    "CR before a comment and after rows": _text("id,name\r1,a\r#2,b\r3,c\r", like_csv=False),
    "no comments": _text("id,name\n#1,a\n2,b\n", comment=""),
    "too few and too many cells": _text("id,name\n1\n2,b\n3,c,d\n4,e\n,\n,,\n"),
    "too many and too few make up": _text("id,name\n1,a,b\n2\n3,c\n"),
    "an open quote": _text('id,name\n1,a\n2,"b\n3,c\n4,d\n', like_csv=False),
    "an open quote, and another": _text(
        'id,name\n1,"b\n2,c\n3,"d"\n4,"e\nf"\n5,g\n', like_csv=False
    ),
    "a quote that is not doubled": _text('id,name\n1,"a"b\n2,c\n3,"d"\n', like_csv=False),
    "a quote within quoted rows": _text(
        'id,name\n1,"a"\n2,"b"c"\n3,"d"\n4,"e\nf"\n', like_csv=False
    ),
    "quotes alone": _text('id,name\n"\n""\n"""\n1,a\n', like_csv=False),
    "NUL": _text("id,name\n1,a\n2,b\x00c\n3,d\n", like_csv=False),
    "no UTF-8": Odd(b"id,name\n1,a\n2,Bj\xf6rk\n3,\xff\n4,d\n\xc3", like_csv=False),
    "a surrogate": Odd(b"id,name\n1,\xed\xa0\x80\n2,b\n", like_csv=False),
    "a row beyond the longest": _text(
        "id,name\n1,a\n2," + "x" * 900 + "\n3,b\n", like_csv=False, max_row=300
    ),
    "a quoted row beyond the longest": _text(
        'id,name\n1,a\n2,"' + "x\n" * 400 + '"\n3,b\n', like_csv=False, max_row=300
    ),
    "rows longer than what is read at once": _text("id,name\n1," + "x" * 500 + "\n2,b\n"),
    "letters of all kinds": _text("id,name\n1,坂本龍一\n2,Zoë 🎷\n3,a\u2028b\x0bc\x0cd\x85e\n"),
    "a mark": Odd("\ufeffid,name\n1,a\n".encode()),
    "a mark before a quote": Odd('\ufeff"id","name"\n1,a\n'.encode()),
    "latin-1": Odd("id,name\n1,Björk\n2,é\n".encode("latin-1"), {"encoding": "latin-1"}),
    "UTF-16": Odd("id,name\n1,Björk\n2,坂本\n".encode("utf-16"), {"encoding": "utf-16"}),
    "Shift JIS": Odd("id,name\n1,坂本龍一\n".encode("shift_jis"), {"encoding": "shift_jis"}),
    "tabs": _text("id\tname\tx\n1\ta, b\t\n\t\t\n \t \t \n", delimiter="\t"),
    "semicolons": _text("id;name\n1;a, b\n2;1,5\n", delimiter=";"),
    "bars": _text("id|name\n1|a;b\n", delimiter="|"),
    "blanks": _text("id name\n1 a\n  \n2 b\n", delimiter=" "),
    "a delimiter of three bytes": _text("id、name\n1、a\n2、b、c\n", delimiter="、"),
    "no header": _text("1,a\n2,b\n3\n", header=False),
    "skipped lines": _text('made by X\n"\nid,name\n1,a\n', like_csv=False, skip_rows=2),
    "a header of two lines": _text('id,"full\nname"\n1,a\n2,b\n'),
    "as a formula": _text('id,name\n1,=1+1\n2,"@x"\n3,-\n'),
    "empty cells": _text('id,a,b\n1,,\n2,"",x\n,,\n'),
}
