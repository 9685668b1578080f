"""An error that no test has ever met is handled by code that nobody has ever seen run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.planted.handlers import branches_not_run, mark
from tests.planted.workshop import PACKAGE, copy_tree
from tests.postgres import Postgres


def test_every_except_branch_between_a_reply_and_its_line_is_run(
    postgres: Postgres, tmp_path: Path
) -> None:
    names, not_run, came = branches_not_run(tmp_path / "copy", postgres.url)
    shutil.rmtree(tmp_path / "copy")
    assert came.exit_code == 0, came.printed
    assert "ledger/ledger.py: Ledger._sync: except OSError" in names
    assert "ledger/ledger.py: Ledger.open: on_failure(ledger.close)" in names
    assert not_run == []
    print(f"{len(names)} branches, all run")


def test_each_branch_has_a_name_of_its_own_and_is_marked_where_it_begins(tmp_path: Path) -> None:
    copy = copy_tree(tmp_path / "copy")
    (copy / PACKAGE / "resume.py").write_text(
        "class A:\n"
        "    def b(self):\n"
        "        try:\n            pass\n"
        "        except (OSError, ValueError):\n            pass\n"
        "        except OSError:\n            pass\n"
        "    def c(self):\n"
        "        try:\n            pass\n"
        "        except OSError:\n"
        "            try:\n                pass\n"
        "            except OSError:\n                pass\n"
        "        with on_failure(self.close):\n            pass\n"
    )
    names = mark(copy)
    assert len(set(names)) == len(names)
    mine = [name for name in names if name.startswith("resume.py")]
    assert mine == [
        "resume.py: A.b: except (OSError, ValueError)",
        "resume.py: A.b: except OSError",
        "resume.py: A.c: except OSError",
        "resume.py: A.c: except OSError (number 2)",
        "resume.py: A.c: on_failure(self.close)",
    ]
    text = (copy / PACKAGE / "resume.py").read_text()
    assert text.count(".ran(") == len(mine)
