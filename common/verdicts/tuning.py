"""The variance that the choice of learning rates adds to a difference, read from the result of the search."""

import json
from collections.abc import Sequence

import numpy as np

from common.errors import Failure
from common.rows import schema
from common.rows.table import Table


def of_arms(files: schema.Files) -> dict[str, float]:
    """Arm with a search of its own -> τ², the variance of its score on val over repetitions of the search.

    Empty if there is no result of a search, or if it does not say: where all arms share one search, and for earlier protocols.

    Raises:
        Failure: the file of the search's result is damaged.
    """
    try:
        arms = json.loads(files.tuned.read_text(encoding="utf-8"))["arms"]
        return {arm: float(entry["tau2"]) for arm, entry in arms.items() if entry.get("tau2") is not None}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{files.tuned} is empty or damaged: run the experiment again to write it") from error


def variance(table: Table, terms: Sequence[tuple[float, str]]) -> float | None:
    """The variance that the choice of rates adds to a signed sum of arms; None where it adds none, or it is not known.

    Each search counts with the larger of its τ² and the mean τ² of the setting's searched arms. Arms that share the values of
    one search do so with their signs added: a difference between them has no such variance. Neither have arms that are searched
    anew for each seed, as the variance over seeds then holds it.

    Args:
        terms: sign and arm.
    """
    known = of_arms(table.files)
    if not known:
        return None
    separate, first, mean = table.declaration.get("search", {}), table.arms[0], float(np.mean(list(known.values())))
    signs: dict[str, float] = {}
    for sign, arm in terms:
        search = arm if arm in separate else first
        if search in known and table.searched(arm):
            signs[search] = signs.get(search, 0.0) + sign
    total = sum(sign**2 * max(known[search], mean) for search, sign in signs.items())
    return total or None
