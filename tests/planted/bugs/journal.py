"""Bugs of what is kept before and after a call."""

from __future__ import annotations

from tests.planted.bug import Bug, Change, tests_of

BUGS = (
    Bug(
        "a call is not noted before it is made",
        (
            Change(
                "processor/clerk.py",
                "        self._journal.write(*(call.intent for call in begun))\n",
                "",
            ),
        ),
        tests_of("test_caller.py", "test_the_intent_is_in_the_journal_before_the_call_is_made"),
    ),
    Bug(
        "a reply is not kept in the journal",
        (
            Change(
                "processor/clerk.py",
                "                    entries.append(_entry(call.artist, outcome))\n",
                "                    pass\n",
            ),
        ),
        tests_of("test_caller.py", "test_a_bio_at_the_first_call"),
    ),
    Bug(
        "replies are handed on before they are synced",
        (
            Change(
                "processor/pool.py",
                "            group, more = _take(self._arrived, LARGEST_GROUP, self._linger)\n",
                """\
            group, more = _take(self._arrived, LARGEST_GROUP, self._linger)
            for item in group:
                self._synced.put(item)
""",
            ),
            Change(
                "processor/pool.py",
                """\
            for item in group:
                self._synced.put(item)
        self._synced.put(None)""",
                "        self._synced.put(None)",
            ),
        ),
        tests_of("test_pool.py", "test_nothing_is_made_final_while_its_sync_still_lasts"),
    ),
    Bug(
        "many threads write to the journal at once",
        (
            Change(
                "ledger/journal.py",
                "        with self._writing:\n            self._append(entries, data)",
                "        self._append(entries, data)",
            ),
        ),
        tests_of("test_journal.py", "test_nothing_comes_behind_a_write_that_ended_half_way"),
    ),
    Bug(
        "a journal's file goes while somebody needs it",
        (
            Change(
                "ledger/journal.py",
                "            if segment.needed_by == 0 and segment.fd not in self._unsynced:",
                "            if segment.fd not in self._unsynced:",
            ),
        ),
        tests_of("test_journal.py", "test_what_is_not_settled_stays_while_the_run_goes_on"),
    ),
    Bug(
        "a journal's file goes before it was synced",
        (
            Change(
                "ledger/journal.py",
                "            if segment.needed_by == 0 and segment.fd not in self._unsynced:",
                "            if segment.needed_by == 0:",
            ),
        ),
        tests_of(
            "test_journal.py", "test_what_comes_and_is_settled_during_a_sync_is_synced_by_the_next"
        ),
    ),
    Bug(
        "only the journal's newest file is synced",
        (
            Change(
                "ledger/journal.py",
                "            for fd in fds:\n",
                "            for fd in sorted(fds)[-1:]:\n",
            ),
        ),
        tests_of(
            "test_journal.py", "test_a_sync_covers_all_files_that_were_written_since_the_last"
        ),
    ),
    Bug(
        "a damaged entry of a journal is believed",
        (Change("ledger/journal.py", ' and crc == b"%08x" % zlib.crc32(body):', ":"),),
        tests_of("test_journal.py", "test_damaged_entries_are_passed_over"),
    ),
    Bug(
        "a damaged journal is removed",
        (
            Change(
                "ledger/journal.py",
                "                if path not in self.damaged:\n",
                "                if True:\n",
            ),
        ),
        tests_of("test_journal.py", "test_a_damaged_journal_is_told_and_kept"),
    ),
    Bug(
        "entries end at any line end that Unicode knows",
        (
            Change(
                "ledger/journal.py",
                "                for data in file:\n",
                """\
                for text in file.read().decode().splitlines(keepends=True):
                    data = text.encode()
""",
            ),
        ),
        tests_of("test_journal.py", "test_any_text_comes_back"),
    ),
    Bug(
        "a journal is removed before its replies are committed",
        (
            Change(
                "resume.py",
                "            outcomes.update(map(type, commit(bought, orphan.run)))\n",
                """\
            orphan.remove()
            orphan.paths.clear()
            outcomes.update(map(type, commit(bought, orphan.run)))
""",
            ),
        ),
        tests_of(
            "integration/test_resume.py", "test_a_start_killed_at_each_of_its_steps_is_gone_on_from"
        ),
    ),
)
