"""The bugs, each a way in which a paid text could be lost, bought twice or not be told of.

A bug whose text is not found any more makes a test fail: then look what has become of the code, and
plant it anew there.
"""

from tests.planted.bugs import commit, journal, ledger, model, recovery

BUGS = (*ledger.BUGS, *journal.BUGS, *commit.BUGS, *recovery.BUGS, *model.BUGS)
