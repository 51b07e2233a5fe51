"""The search space of each arm, made of the arguments `search` and `sweep` of `Experiment`."""

from collections.abc import Callable

from common import declarations, space


def alike(arms: dict[str, dict], search: dict | Callable | space.Shared | None) -> space.Space:
    """The space that is declared for all arms alike, shared or separate; empty if a search names arms.

    Args: see `Experiment`.
    """
    if isinstance(search, space.Shared):
        return search.space
    search = space.of_build(search) if callable(search) else search or {}
    return {} if all(name in arms for name in search) else search


def of_arms(experiment: str, arms: dict[str, dict], search: dict | Callable | space.Shared | None) -> dict[str, space.Space]:
    """Arm -> the space searched for that arm alone, without the arguments that the arm sets.

    Args:
        experiment: its name, for errors; arms, search: see `Experiment`.

    Raises:
        Misuse: what is searched is neither a range nor a choice of plain values.
    """
    search = search.arms if isinstance(search, space.Shared) else search
    everywhere = alike(arms, search)
    searches = dict.fromkeys(arms, everywhere) if everywhere or callable(search) else search or {}
    spaces = {}
    for arm, searched in searches.items():
        searched = space.of_build(searched) if callable(searched) else searched
        declarations.require_space(experiment, arm, searched)
        declarations.require_plain_space(experiment, f"the search of arm {arm!r}", searched)
        free = {name: entry for name, entry in searched.items() if name not in arms[arm]}
        if free:
            spaces[arm] = free
    return spaces


def of_sweep(
    experiment: str, arms: dict[str, dict], search: dict | Callable | space.Shared | None, sweep: dict[str, dict] | str | None
) -> tuple[dict[str, dict], dict[str, space.Space]]:
    """Of the arms that only a sweep searches: arm -> the values that it sets, and arm -> its space.

    Args: see `of_arms`.

    Raises:
        Misuse: an arm without a range, with the name of a trained arm, or with what is not plain.
    """
    if sweep is None or isinstance(sweep, str):
        return {}, {}
    fixed, spaces, everywhere = {}, {}, alike(arms, search)
    for arm, given in sweep.items():
        ranges = {name: value for name, value in given.items() if isinstance(value, space.Range | space.Choice)}
        fixed[arm] = {name: value for name, value in given.items() if name not in ranges}
        spaces[arm] = {name: entry for name, entry in everywhere.items() if name not in given} | ranges
        declarations.require_swept(experiment, arm, arms, ranges)
        declarations.require_plain_space(experiment, f"the sweep of {arm!r}", ranges)
    declarations.require_plain_arms(experiment, fixed)
    return fixed, spaces
