"""What is undone when something fails half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from artist_bio_gen.failing import on_failure


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_is_raised_the_file_is_closed_and_the_error_goes_on(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    error = raised("as it was")
    file = (tmp_path / "file").open("w")
    with pytest.raises(raised) as caught, on_failure(file.close):
        raise error
    assert caught.value is error
    assert file.closed


def test_without_an_error_it_stays_open(tmp_path: Path) -> None:
    def opened() -> int:
        with on_failure(file.close):
            return file.write("whole")

    with (tmp_path / "file").open("w") as file:
        assert opened() == 5
        assert not file.closed


def test_the_one_within_is_undone_before_the_one_around_it() -> None:
    undone: list[str] = []
    with (
        pytest.raises(ValueError, match="half-way"),
        on_failure(lambda: undone.append("first")),
        on_failure(lambda: undone.append("second")),
    ):
        raise ValueError("half-way")
    assert undone == ["second", "first"]
