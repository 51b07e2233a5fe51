"""`make compare`: compares experiments of one setting, in a figure and tables.

With EXP: the difference of every arm of these experiments to its experiment's baseline. Without EXP: the first claim of all.
"""

import pathlib
import sys
from collections.abc import Sequence

from common.claims import OF_TARGETS
from common.commands.parsing import end, parse, setting_name
from common.commands.selection import read, selected, spans
from common.errors import Failure, Misuse
from common.figures import effects as figure
from common.report import comparison
from common.rows import schema
from common.rows.metric import DERIVED
from common.rows.table import NoData, Table
from common.text import did_you_mean, file_name, number_of
from common.verdicts import effects
from common.verdicts.judge import judge_parts


def run() -> int:
    """Run the command. Returns the exit status: 1 if some rows cannot be read. Raises `Misuse`."""
    given = parse(["results", "setting", "full", "exp", "metric"], description=__doc__)
    chosen = selected(pathlib.Path(given.results), given.exp, setting_name(given))
    folders, status = read(chosen)
    if given.metric is not None:
        check_metric(given.metric, [table for tables in folders.values() for table in tables])
    written = [compare(folder, tables, given.exp is not None, given.metric) for folder, tables in folders.items()]
    if not any(written) and not status:
        raise Misuse("nothing could be compared, see above: another METRIC or EXP may be")
    for stem in filter(None, written):
        print(f"{stem}.png (also svg, pdf, csv, tex, md)")
    return status


def check_metric(name: str, tables: Sequence[Table]) -> None:
    """Raises `Misuse` for the name of a metric that no rows have or that cannot be compared."""
    if name in OF_TARGETS:
        raise Misuse(f"METRIC needs a target, which claims alone set: see make verdict-NN. Received: {name}")
    derived = sorted(set(DERIVED) - set(OF_TARGETS))
    no_numbers = {*schema.KEY, *schema.TEXTS, *schema.HASHES, *schema.OBJECTS, *schema.BOOLEANS}
    measures = {measure for table in tables for measure in table.measures["name"].unique()}
    known = [*derived, *(column for column in schema.NAMES if column not in no_numbers), *measures]
    if name not in known:
        raise Misuse(
            f"METRIC must be a column of numbers, a measure of these experiments, or {', '.join(derived)}. "
            f"Received: {name}{did_you_mean(name, known)}"
        )


def compare(folder: pathlib.Path, tables: Sequence[Table], by_arms: bool, metric: str | None) -> pathlib.Path | None:
    """Write the figure and the tables of one setting folder. Returns their path without suffix; None if there is nothing to show.

    Args:
        by_arms: whether to compare all arms, instead of the first claims; metric: by default the primary one of each experiment.
    """
    if by_arms:
        tables = [part for table in tables for part in table.parts()]
    stem, left_out = _effects(folder, tables, by_arms, metric) if by_arms or metric else _first_claims(folder, tables)
    if left_out:
        print(f"{folder.name}: {left_out[:1].lower()}{left_out[1:].rstrip('.')}", file=sys.stderr)
    return stem


def _first_claims(folder: pathlib.Path, tables: Sequence[Table]) -> tuple[pathlib.Path | None, str]:
    """See `comparison.write_first_claims`."""
    judged, left_out = [], {}
    for table in tables:
        try:
            judged += judge_parts(table)
        except Failure as error:
            left_out[number_of(table.files.experiment)] = str(error)
    return comparison.write_first_claims(folder, judged, left_out)


def _effects(folder: pathlib.Path, tables: Sequence[Table], by_arms: bool, metric: str | None) -> tuple[pathlib.Path | None, str]:
    """Write figure and tables of the effects of arms. Returns as `comparison.write_first_claims`."""
    compared, reasons = _comparisons(tables, by_arms, metric)
    notes = comparison.notes_on([part for table in tables for part in table.parts()])
    left_out = comparison.left_out_line(reasons)
    if not compared:
        return None, left_out
    if metric in schema.TIMES and any((table.rows["beside"] > 0).any() for table in tables):
        notes.append("Some trials ran beside others, which makes their times longer.")
    numbers = spans(sorted({number_of(table.files.experiment) for table in tables}))
    stem = folder / "-".join(["compare", *(numbers if by_arms else []), *([file_name(metric)] if metric else [])])
    what = "of each arm to its baseline" if by_arms else "between the arms of each first claim"
    _write_effects(stem, compared, [*notes, *filter(None, [left_out])], what)
    return stem, left_out


def _comparisons(tables: Sequence[Table], by_arms: bool, metric: str | None) -> tuple[list[effects.Comparison], dict[str, str]]:
    """The comparisons in their order, and for the number of each experiment without one the reason."""
    compared, left_out = [], {}
    for table in tables:
        try:
            one = effects.of_arms(table, metric) if by_arms else effects.of_first_claim(table, metric)
            if one.largest < 0:
                raise NoData(next((effect.reason for effect in one.effects), "it has one arm"))
            compared.append(one)
        except (NoData, Failure) as error:
            left_out[number_of(table.files.experiment)] = str(error)
    return effects.ordered(compared), left_out


def _about_intervals(compared: Sequence[effects.Comparison]) -> list[str]:
    """What intervals leave out, in sentences, each with the experiments that it is true of."""
    notes = dict.fromkeys(note for one in compared for note in one.notes)
    numbers = {note: ", ".join(sorted({one.number for one in compared if note in one.notes})) for note in notes}
    return [f"Of {which}: {note}." for note, which in numbers.items()]


def _write_effects(stem: pathlib.Path, compared: Sequence[effects.Comparison], notes: list[str], what: str) -> None:
    metrics = list(dict.fromkeys(one.label for one in compared))
    title = f"{stem.parent.name}: {metrics[0] if len(metrics) == 1 else 'primary metric'}, difference {what}"
    notes = [*filter(None, [effects.baselines(compared)]), *_about_intervals(compared), *notes]
    counts = sorted({effect.seeds for one in compared for effect in one.effects if not effect.reason})
    marks = {
        "; band: ± the margin of the experiment's claim": any(one.margin for one in compared),
        "; hollow: all arms at the common rate": any(e.rate == schema.COMMON for one in compared for e in one.effects),
    }
    colours = "green: better, orange: worse" if any(one.direction for one in compared) else "blue: not around 0"
    caption = (
        f"dot: mean over {counts[0]}{f'–{counts[-1]}' if len(counts) > 1 else ''} seeds, line: its 95 % interval, not corrected "
        f"for the number of arms; {colours}{''.join(mark for mark, there in marks.items() if there)}"
    )
    drawn = figure.effects(compared, title, " ".join([f"{caption}.", *notes]))
    table = comparison.effects_markdown(compared, title, notes)
    comparison.write(stem, drawn, comparison.effects_frame(compared), comparison.effects_tex(compared), table)


if __name__ == "__main__":
    end(run)
