"""Build the report from rows, or check that README says what the published rows say: `make report`, `make check`."""

import pathlib
import sys

from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.files import write_atomic
from common.report import page
from common.rows import schema, store


def run() -> int:
    """Build the report below a results folder. Returns the exit status: 1 if some rows cannot be read."""
    given = parse(["results", "check"], description=__doc__)
    if given.check:
        if page.readme(schema.REFERENCE) != page.README.read_text(encoding="utf-8"):
            raise Failure("README's results are not those of the rows: make report RESULTS=results/reference")
        return 0
    folder = pathlib.Path(given.results)
    if not store.setting_folders(folder):
        raise Misuse(f"no experiment has rows: run one first (make exp-NN). Received: {folder}")
    path, broken = page.build(folder)
    for line in broken:
        print(line, file=sys.stderr)
    print(path)
    if folder.resolve() == schema.REFERENCE:
        write_atomic(page.README, page.readme(folder).encode())
    return Failure.status if broken else 0


if __name__ == "__main__":
    end(run)
