"""What values of databases, workbooks and libraries become as cells."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import uuid
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.sources.cells import json_cell, json_cells, span_text

UTC = dt.UTC
PARIS = dt.timezone(dt.timedelta(hours=2))


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2.5, 2.5),
        ("007", "007"),
        ("", ""),
        (2**63 - 1, 9223372036854775807),
        (2**64 - 1, 18446744073709551615),
        (2**64, "18446744073709551616"),
        (-(2**63), -9223372036854775808),
        (-(2**63) - 1, "-9223372036854775809"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (dt.date(2001, 2, 3), "2001-02-03"),
        (dt.datetime(2001, 2, 3, 4, 5, 6), "2001-02-03T04:05:06"),  # noqa: DTZ001
        (dt.datetime(2001, 2, 3, 4, 5, 6, 7, UTC), "2001-02-03T04:05:06.000007+00:00"),
        (dt.datetime(2001, 2, 3, 4, 5, 6, 0, PARIS), "2001-02-03T04:05:06+02:00"),
        (dt.time(4, 5, 6), "04:05:06"),
        (dt.timedelta(days=1, hours=6), "P1DT6H"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("1E+999999"), "1E+999999"),
        (Decimal("-Infinity"), "-Infinity"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        (Colour.RED, "red"),
        (enum.IntEnum("Size", ["SMALL"]).SMALL, 1),  # type: ignore[attr-defined]
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        ([1, (2, float("nan"))], [1, [2, "NaN"]]),
        ({"born": dt.date(1, 1, 1), 7: None}, {"born": "0001-01-01", "7": None}),
        (MappingProxyType({"a": Decimal(1)}), {"a": "1"}),
        ({3}, [3]),
    ],
)
def test_a_value_becomes_a_cell(value: Any, cell: Any) -> None:
    found = json_cell(value)
    assert found == cell
    assert type(found) is type(cell)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "PT0S"),
        (1, "PT0.000001S"),
        (1_500_000, "PT1.5S"),
        (86_400_000_000, "P1D"),
        (90_061_000_000, "P1DT1H1M1S"),
        (-90_061_000_000, "-P1DT1H1M1S"),
        (60_000_000, "PT1M"),
    ],
)
def test_a_span_of_time_is_told_in_days_and_smaller(microseconds: int, text: str) -> None:
    assert span_text(microseconds) == text


def test_values_of_numpy_and_pandas_become_cells() -> None:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    cells = json_cells(
        [
            np.int64(7),
            np.float32(0.5),
            np.float64("nan"),
            np.bool_(True),
            np.str_("x"),
            np.array([1, 2]),
            np.datetime64("2001-02-03T04:05:06.000000001"),
            np.timedelta64(5, "s"),
            pd.NA,
            pd.NaT,
            pd.Timestamp("2001-02-03 04:05:06", tz="UTC"),
            pd.Timedelta("1 days 06:00:00"),
        ]
    )
    assert cells == (
        *(7, 0.5, "NaN", True, "x", [1, 2], "2001-02-03T04:05:06", "PT5S", None, None),
        *("2001-02-03T04:05:06+00:00", "P1DT6H"),
    )
    assert [type(cell) for cell in cells[:5]] == [int, float, str, bool, str]


ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(max_size=9),
        st.decimals(),
        st.datetimes(),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.uuids(),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=9,
)


@given(ODD)
def test_every_cell_can_be_written_as_json_and_is_a_cell_itself(value: Any) -> None:
    cell = json_cell(value)
    assert orjson.loads(orjson.dumps(cell)) == cell
    assert json_cell(cell) == cell
    json.dumps(cell, allow_nan=False)


@given(st.timedeltas())
def test_a_span_of_time_is_exact(span: dt.timedelta) -> None:
    text = json_cell(span)
    sign = -1 if text.startswith("-") else 1
    day, _, time = text.lstrip("-P").partition("T")
    units = {"D": 86_400_000_000, "H": 3_600_000_000, "M": 60_000_000, "S": 1_000_000}
    total, digits = Decimal(0), ""
    for letter in day + time:
        if letter in units:
            total += Decimal(digits) * units[letter]
            digits = ""
        else:
            digits += letter
    assert sign * int(total) == span // dt.timedelta(microseconds=1)
