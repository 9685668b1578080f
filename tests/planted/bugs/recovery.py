"""Bugs of what a start does with what it finds."""

from __future__ import annotations

from tests.planted.bug import Bug, Change, tests_of

BUGS = (
    Bug(
        "nothing is reconciled at the start",
        (
            Change(
                "resume.py",
                "    scan = ledger.scan(trust_note=trust_note)\n",
                """\
    scan = ledger.scan()
    return Reconciled(scan.head.seq)
""",
            ),
        ),
        tests_of(
            "integration/test_resume.py",
            "test_lines_that_only_the_database_has_are_appended_byte_for_byte",
            "test_lines_that_only_the_file_has_are_put_back",
        ),
    ),
    Bug(
        "a torn tail is kept and written on",
        (Change("resume.py", "        quarantine = str(ledger.cut())\n", "        pass\n"),),
        tests_of(
            "integration/test_resume.py",
            "test_a_torn_tail_is_put_aside_and_appended_from_the_database",
        ),
    ),
    Bug(
        "a torn tail is cut off and not kept",
        (
            Change(
                "ledger/ledger.py",
                "                    write_all(self._files, out, block)\n",
                "                    pass\n",
            ),
        ),
        tests_of(
            "test_ledger.py",
            "test_a_tail_cut_at_any_byte_is_found_and_put_aside",
            "test_lost_pages_are_what_a_crash_leaves",
        ),
    ),
    Bug(
        "a torn tail is cut off before its copy is synced",
        (Change("ledger/ledger.py", "                self._files.fsync(out)\n", ""),),
        tests_of("test_ledger.py", "test_a_cut_that_fails_loses_nothing"),
    ),
    Bug(
        "a run of NUL bytes is passed over",
        (
            Change(
                "ledger/check.py",
                "(data := file.readline(LONGEST_LINE)):",
                '(data := file.readline(LONGEST_LINE).lstrip(b"\\0")):',
            ),
        ),
        tests_of("test_ledger.py", "test_lost_pages_are_what_a_crash_leaves"),
    ),
    Bug(
        "a torn tail is cut off though the database cannot confirm it",
        (
            Change(
                "resume.py",
                "    if there.seq <= scan.head.seq and scan.damage is not None:\n",
                "    if False:\n",
            ),
        ),
        tests_of(
            "integration/test_resume.py", "test_a_torn_tail_with_an_older_database_is_left_alone"
        ),
    ),
    Bug(
        "a file whose fsync failed is gone on with by the next start",
        (
            Change(
                "ledger/ledger.py",
                'return int(content["size"]) if content["file"] == self.file.name else None',
                "return None",
            ),
        ),
        tests_of("test_segments.py", "test_the_next_start_goes_on_in_a_new_file"),
    ),
    Bug(
        "a new file has its name before it is on disk",
        (
            Change(
                "ledger/ledger.py",
                """\
            self._files.fsync(fd)
            self._files.rename(str(new), str(path))
""",
                """\
            self._files.rename(str(new), str(path))
            self._files.fsync(fd)
""",
            ),
        ),
        tests_of("test_segments.py", "test_the_new_file_is_on_disk_before_it_has_its_name"),
    ),
    Bug(
        "ledger and database that have parted are not told apart",
        (Change("resume.py", "    if not same:\n", "    if False:\n"),),
        tests_of("integration/test_resume.py", "test_sides_that_have_parted_are_left_alone"),
    ),
    Bug(
        "the head beside the ledger is not asked whether both sides are older copies",
        (
            Change(
                "resume.py",
                "max(noted_seq(path), seen)",
                "0",
            ),
        ),
        tests_of(
            "acceptance/test_tail.py",
            "test_older_copies_of_both_are_found_by_the_head_beside_the_ledger",
        ),
    ),
)
