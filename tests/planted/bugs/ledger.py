"""Bugs of the ledger's files, locks and lines."""

from __future__ import annotations

from tests.planted.bug import Bug, Change, tests_of

_FOLLOWS = """f',"prev":"{prev}","hash":"{digest}"}}\\n'.encode()"""
_STANDS_ALONE = """f'"hash":"{digest}"}}\\n'.encode()"""

BUGS = (
    Bug(
        "the ledger is not synced",
        (Change("ledger/ledger.py", "            self._sync()\n", ""),),
        tests_of("test_ledger.py", "test_a_group_is_written_at_once_and_then_synced"),
    ),
    Bug(
        "a failed fsync is tried once more",
        (
            Change(
                "ledger/ledger.py",
                """\
    def _sync(self) -> None:
        try:
""",
                """\
    def _sync(self) -> None:
        try:
            self._files.fsync(self._fd)
            return
        except OSError:
            pass
        try:
""",
            ),
        ),
        tests_of("test_ledger.py", "test_an_append_that_fails_is_final"),
    ),
    Bug(
        "a failed fsync is passed over",
        (
            Change(
                "ledger/ledger.py",
                """\
            raise self._break(
                f"could not be synced""",
                """\
            return
            raise self._break(
                f"could not be synced""",
            ),
        ),
        (
            *tests_of("test_ledger.py", "test_an_append_that_fails_is_final"),
            *tests_of(
                "integration/test_committer.py",
                "test_an_append_that_fails_is_not_acknowledged_and_loses_nothing",
            ),
        ),
    ),
    Bug(
        "a file whose fsync failed is written on",
        (
            Change(
                "ledger/ledger.py",
                """\
        if self._broken is not None:
            raise LedgerFileError""",
                """\
        if self._broken == "":
            raise LedgerFileError""",
            ),
        ),
        tests_of("test_ledger.py", "test_an_append_that_fails_is_final"),
    ),
    Bug(
        "a short write is taken for a whole one",
        (
            Change(
                "ledger/files.py", "    while written < len(data):\n", "    while written < 0:\n"
            ),
        ),
        tests_of("test_ledger.py", "test_a_short_write_without_an_error_is_continued"),
    ),
    Bug(
        "a new file's folder is not synced",
        (
            Change(
                "ledger/files.py",
                """\
            calls.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise LedgerFileError(f"{folder}""",
                """\
            pass
        finally:
            os.close(fd)
    except OSError as exc:
        raise LedgerFileError(f"{folder}""",
            ),
        ),
        tests_of("test_ledger.py", "test_a_new_ledger_is_on_disk_with_its_head_and_their_folder"),
    ),
    Bug(
        "others may read the files",
        (Change("ledger/files.py", "PRIVATE = 0o600", "PRIVATE = 0o644"),),
        (
            *tests_of("test_ledger.py", "test_a_new_ledger_is_empty_private_and_has_an_id"),
            *tests_of(
                "test_journal.py", "test_a_sync_covers_all_files_that_were_written_since_the_last"
            ),
        ),
    ),
    Bug(
        "a deleted ledger is not noticed",
        (
            Change(
                "ledger/files.py",
                "    return os.path.samestat(os.fstat(fd), there)",
                "    return there is not None",
            ),
            Change(
                "ledger/files.py",
                """\
    except FileNotFoundError:
        return False
""",
                """\
    except FileNotFoundError:
        return True
""",
            ),
        ),
        tests_of("test_ledger.py", "test_a_file_deleted_or_replaced_under_us_is_noticed"),
    ),
    Bug(
        "no lock beside the ledger",
        (
            Change(
                "ledger/ledger.py",
                'Sidecar(beside(path, "lock"), cancelled)',
                'Sidecar(beside(path, f"lock.{uuid.uuid4()}"), cancelled)',
            ),
        ),
        tests_of("test_ledger.py", "test_nobody_makes_a_ledger_while_another_one_is_at_it"),
    ),
    Bug(
        "no lock on the ledger itself",
        (
            Change(
                "ledger/ledger.py",
                "                    self._files.flock(self._fd, operation)\n",
                "                    self._files.flock(self._fd, fcntl.LOCK_UN)\n",
            ),
        ),
        tests_of("test_ledger.py", "test_there_is_one_holder_even_if_the_sidecar_is_deleted"),
    ),
    Bug(
        "no lock at all",
        (
            Change(
                "ledger/ledger.py",
                'Sidecar(beside(path, "lock"), cancelled)',
                'Sidecar(beside(path, f"lock.{uuid.uuid4()}"), cancelled)',
            ),
            Change(
                "ledger/ledger.py",
                "                    self._files.flock(self._fd, operation)\n",
                "                    self._files.flock(self._fd, fcntl.LOCK_UN)\n",
            ),
        ),
        tests_of(
            "test_ledger.py", "test_there_is_one_holder_even_if_the_sidecar_is_deleted[False]"
        ),
    ),
    Bug(
        "the journal of a living process is taken over",
        (
            Change(
                "ledger/files.py",
                "        calls.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                "        calls.flock(fd, fcntl.LOCK_UN)\n",
            ),
        ),
        tests_of("test_journal.py", "test_the_journal_of_a_living_process_is_passed_over"),
    ),
    Bug(
        "each line of a group names the line before the group",
        (
            Change(
                "processor/committer.py",
                "            prev = line.hash\n",
                "            prev = head.hash\n",
            ),
        ),
        tests_of(
            "integration/test_committer.py", "test_a_group_is_in_the_database_and_in_the_ledger"
        ),
    ),
    Bug(
        "the hash leaves out the beginning of the line",
        (
            Change(
                "ledger/line.py",
                """\
        prev.encode(),
    )
    digest = hashlib.sha256(body)""",
                """\
        prev.encode(),
    )
    digest = hashlib.sha256(body[16:])""",
            ),
            Change(
                "ledger/line.py",
                """\
    body = data[:-HASH_TAIL]
    digest = hashlib.sha256(body)""",
                """\
    body = data[:-HASH_TAIL]
    digest = hashlib.sha256(body[16:])""",
            ),
            Change(
                "ledger/line.py",
                "hashlib.sha256(data[:-HASH_TAIL])",
                "hashlib.sha256(data[16:-HASH_TAIL])",
            ),
        ),
        tests_of("test_line.py", "test_any_flipped_bit_is_detected"),
    ),
    Bug(
        "a line need not follow the one before",
        (
            Change(
                "ledger/line.py",
                """\
    if data[-_PREV_TAIL:-HASH_TAIL] != b',"prev":"%b"' % prev.encode():
        return None
""",
                "",
            ),
            Change("ledger/check.py", _FOLLOWS, _STANDS_ALONE),
            Change("ledger/ahead.py", _FOLLOWS, _STANDS_ALONE),
        ),
        tests_of("test_ledger.py", "test_a_line_of_another_ledger_is_damage"),
    ),
)
