"""The file `tuned_NN_….json`: the values that an experiment's arms are trained with, and the results of sweeps.

`arms` holds what the last run chose for each searched arm, and the variance `tau2` that this choice adds to its scores. The first
arm also stands for all that take shared values from it. `swept` holds the best results of sweeps, which later runs use in place
of smaller searches.
"""

import contextlib
import json
from collections.abc import Collection
from dataclasses import asdict

from common import space
from common.errors import Failure
from common.files import write_atomic
from common.rows import schema
from common.search.scores import Score, SearchResult
from common.search.sweep import Sweep


def write_chosen(files: schema.Files, results: dict[str, SearchResult], searched: Collection[str]) -> None:
    """Write what a run chose, before it trains with it. Arms that are not in this run stay.

    Args:
        results: arm -> result of its search.
        searched: all arms of the experiment with a search, in the order of the file.
    """
    known = _read_for_update(files)
    arms = known["arms"] | {arm: asdict(result) for arm, result in results.items()}
    _write(files, {**known, "arms": {arm: arms[arm] for arm in searched if arm in arms}})


def write_swept(files: schema.Files, sweep: Sweep, bases: dict[str, str], cost: dict[str, int]) -> None:
    """Write the results of a sweep.

    Arms that were not in this sweep stay, as do values from an earlier sweep of the same space, code and data: if it alone
    trained longer than the search that it replaces, or has the better score, or the same and trained longer.

    Args:
        bases: arm -> hash of code, setting and data, see `Search.bases`.
        cost: arm -> epochs that its search would train without a sweep.
    """
    known = _read_for_update(files)
    swept = dict(known["swept"])
    for arm, result in sweep.results().items():
        score, entries, epochs = sweep.score(arm), sweep.spaces[arm], sweep.trained_epochs[arm]
        hashes, rank = [space.space_hash(entries), bases[arm]], (epochs > cost[arm], score.rank, epochs)
        if _known_rank(swept.get(arm), hashes, cost[arm]) > rank:
            continue
        swept[arm] = asdict(result) | {
            "score": score.value,
            "nll": score.nll,
            "epochs": epochs,
            "search": hashes[0],
            "under_searched": space.at_edges(entries, result.values),
            "basis": hashes[1],
        }
    _write(files, {**known, "swept": swept})


def swept(
    files: schema.Files, spaces: dict[str, space.Space], bases: dict[str, str], cost: dict[str, int]
) -> dict[str, SearchResult]:
    """Arm -> result of an earlier sweep; empty unless it has all arms, with these spaces and bases, and trained longer.

    Args:
        bases, cost: see `write_swept`.

    Raises:
        Failure: the file is damaged.
    """
    known = _read(files)["swept"]
    try:
        results = {}
        for arm, least in cost.items():
            entry = known[arm]
            hashes = [space.space_hash(spaces[arm]), bases[arm]]
            if [entry["search"], entry["basis"]] != hashes or entry["epochs"] <= least:
                return {}
            results[arm] = SearchResult(*(entry[name] for name in ("values", "tuning", "tau2", "trained")))
        return results
    except (KeyError, TypeError):  # an arm is missing
        return {}


def _known_rank(known: dict | None, hashes: list[str], cost: int) -> tuple:
    """The rank of an entry: whether it can replace a search that trains `cost` epochs, its score, its epochs.

    Empty, which is the lowest, for another space or basis than the hashes, and for a missing or damaged entry.
    """
    try:
        rank = known["epochs"] > cost, Score(known["score"], known["nll"]).rank, known["epochs"]
        return rank if [known["search"], known["basis"]] == hashes else ()
    except (KeyError, TypeError):
        return ()


def _read_for_update(files: schema.Files) -> dict:
    """The content of the file; that of an empty one if it is damaged, which is then overwritten."""
    with contextlib.suppress(Failure):
        return _read(files)
    return {"arms": {}, "swept": {}}


def _read(files: schema.Files) -> dict:
    """The content of the file, with `arms` and `swept`, empty if there is no file. Raises `Failure` for a damaged one."""
    if not files.tuned.exists():
        return {"arms": {}, "swept": {}}
    try:
        content = json.loads(files.tuned.read_text(encoding="utf-8"))
        return {"arms": dict(content["arms"]), "swept": dict(content.get("swept", {}))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"{files.tuned} is empty or damaged: run the sweep again, which repeats no finished trial; or remove "
            "it to use the declared search"
        ) from error


def _write(files: schema.Files, content: dict) -> None:
    """Replace the file, unless it has this content."""
    written = (json.dumps({"experiment": files.experiment, **content}, indent=1) + "\n").encode()
    if not files.tuned.exists() or files.tuned.read_bytes() != written:
        write_atomic(files.tuned, written)
