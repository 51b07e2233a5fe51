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


def variance(table: Table, terms: Sequence[tuple[float, str]]) -> tuple[float | None, list[str]]:
    """The variance that the choice of rates adds to a signed sum of arms, and a note where that of an arm is not known.

    The variance is None where it is not known, or the choice adds none.

    Each search counts with the larger of its τ² and the mean τ² of the setting's searched arms. Arms that share the values of
    one search do so with their signs added: a difference between them has no such variance. Neither have arms that are searched
    anew for each seed, as the variance over seeds then holds it.

    Args:
        terms: sign and arm.
    """
    known, separate, first = of_arms(table.files), table.declaration.get("search", {}), table.arms[0]
    mean = float(np.mean(list(known.values()))) if known else 0.0
    signs: dict[str, float] = {}
    for sign, arm in terms:
        search = arm if arm in separate else first
        if table.searched(arm):
            signs[search] = signs.get(search, 0.0) + sign
    unknown = [search for search, sign in signs.items() if sign and search not in known]
    total = sum(sign**2 * max(known[search], mean) for search, sign in signs.items() if search in known)
    names = ", ".join(map(repr, unknown))
    notes = [f"interval without the variance of the choice of a rate: {table.files.tuned.name} has none of {names}"]
    return total or None, notes if unknown else []
