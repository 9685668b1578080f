"""Bugs of the transaction and of what comes right behind it."""

from __future__ import annotations

from tests.planted.bug import Bug, Change, tests_of

_APPENDED = """\
        if not self._append(lines):
            return []
"""

BUGS = (
    Bug(
        "the line is written before the commit",
        (
            Change("processor/committer.py", _APPENDED, ""),
            Change(
                "processor/committer.py",
                "        return lines, self._store.commit(rows, old=head)\n",
                """\
        self._append(lines)
        return lines, self._store.commit(rows, old=head)
""",
            ),
        ),
        tests_of(
            "integration/test_committer.py",
            "test_the_database_has_committed_before_the_ledger_is_touched",
        ),
    ),
    Bug(
        "a bio is told to be done before its line is synced",
        (
            Change("processor/committer.py", _APPENDED, ""),
            Change(
                "processor/committer.py",
                """\
        self._tell("appended", [_appended(*pair) for pair in pairs])
""",
                """\
        self._tell("appended", [_appended(*pair) for pair in pairs])
        if not self._append(lines):
            return []
""",
            ),
        ),
        tests_of(
            "integration/test_committer.py",
            "test_an_append_that_fails_is_not_acknowledged_and_loses_nothing",
        ),
    ),
    Bug(
        "what arrives after a file could not be written is dropped",
        (
            Change(
                "processor/pool.py",
                "                    # What has arrived may stand in no file at all: the database"
                " takes it still.\n",
                "                    given_up = True\n",
            ),
        ),
        tests_of(
            "test_pool.py",
            "test_what_arrives_after_a_file_could_not_be_written_is_still_handed_on",
        ),
    ),
    Bug(
        "a ledger that could not be written is written on behind the gap",
        (
            Change(
                "processor/committer.py",
                "            self._file_error = self._trouble = exc\n",
                "            self._trouble = exc\n",
            ),
        ),
        tests_of(
            "integration/test_committer.py",
            "test_groups_behind_one_that_found_no_room_are_committed_to_the_database",
        ),
    ),
    Bug(
        "the head is not moved in the transaction",
        (
            Change(
                "database/statements.py",
                "set seq = %(new_seq)s, hash = %(new_hash)s, updated_at = now()",
                "set updated_at = now()",
            ),
        ),
        tests_of(
            "integration/test_store.py",
            "test_a_group_is_committed_with_its_exact_lines_and_the_head_moves",
        ),
    ),
    Bug(
        "the head is moved from wherever it stands",
        (Change("database/statements.py", " and seq = %(old_seq)s and hash = %(old_hash)s", ""),),
        tests_of(
            "integration/test_store.py", "test_nothing_is_committed_when_the_head_is_elsewhere"
        ),
    ),
    Bug(
        "a lost answer of commit is taken for a failure",
        (
            Change(
                "database/store.py",
                "            if unsure and _head(conn, old.ledger) == new:\n",
                "            if False:\n",
            ),
        ),
        (
            *tests_of(
                "integration/test_store.py",
                "test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice[after]",
            ),
            *tests_of(
                "integration/test_committer.py",
                "test_a_lost_answer_of_commit_leaves_no_line_out_and_none_twice[after]",
            ),
        ),
    ),
    Bug(
        "a lost answer of commit is taken for success",
        (
            Change(
                "database/store.py",
                "            if unsure and _head(conn, old.ledger) == new:\n",
                "            if unsure:\n",
            ),
        ),
        tests_of(
            "integration/test_store.py",
            "test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice[before]",
        ),
    ),
    Bug(
        "a lost answer of commit is looked up without waiting for the old transaction",
        (
            Change(
                "database/store.py",
                '"select seq, hash from artist_bio_gen.heads where ledger = %s for update"',
                '"select seq, hash from artist_bio_gen.heads where ledger = %s"',
            ),
        ),
        tests_of(
            "integration/test_store.py",
            "test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice[late]",
        ),
    ),
    Bug(
        "a weak commit of the server is put up with",
        (
            Change(
                "database/connect.py",
                '        conn.execute("set synchronous_commit = on")\n',
                "        pass\n",
            ),
        ),
        tests_of(
            "integration/test_store.py",
            "test_a_connection_waits_for_the_disk_whatever_the_server_says",
        ),
    ),
)
