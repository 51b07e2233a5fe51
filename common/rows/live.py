"""`LiveRows`: the rows of an experiment while it runs, of which each reading only reads what is new."""

from common.rows import journal, reading
from common.rows.merging import position
from common.rows.schema import NAMES, Files, identity
from common.rows.store import outcomes_in


class LiveRows:
    """The rows of an experiment in a setting folder, also those of other runs. Writes nothing.

    The file of rows is only read again when it has been replaced; until then, what was appended to the journal.
    """

    def __init__(self, files: Files):
        self.files = files
        self.rows: dict[tuple, dict[str, str]] = {}
        self.stamp, self.journal, self.is_read = None, journal.NONE, False
        self.order: list[str] | None = None
        """The arms in the order of the rows that have not been sorted since they were added; None if all are sorted."""

    def all(self) -> list[dict[str, str]]:
        """All rows, in the order of the file. Raises `Failure` like `store.read_rows`."""
        self._update()
        if self.order is not None:
            self.rows = dict(sorted(self.rows.items(), key=lambda item: position(item[0], self.order)))
            self.order = None
        return list(self.rows.values())

    def get(self, trial: tuple[str, str, str, int]) -> dict[str, str] | None:
        """The row of a trial, given as by `schema.identity`; None if it has none. Raises like `all`."""
        self._update()
        return self.rows.get(trial)

    def _update(self) -> None:
        """Read what is new."""
        # The journal before the stamp: if the rows have not been replaced by then, it has not been folded before it was read.
        found = journal.read(self.files.journal, since=self.journal)
        while not self.is_read or self.files.stamp() != self.stamp:
            self.is_read, self.stamp, self.order = False, self.files.stamp(), None
            self.rows = {identity(row): row for row in reading.read_trials(self.files.rows).rows}
            found = journal.read(self.files.journal)
            self.is_read = True
        for outcome, order in outcomes_in(self.files.journal, found.entries):
            self.rows[identity(outcome.row)] = dict.fromkeys(NAMES, "") | outcome.row
            self.order = order
        self.journal = found
