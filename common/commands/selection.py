"""Which experiments with rows a command reads: those of EXP, in the settings of SETTING."""

import pathlib
import sys
from collections.abc import Mapping, Sequence

from common.commands.run import find_script
from common.errors import Failure, Misuse
from common.rows import schema, store
from common.rows.table import Table
from common.text import number_of, two_digits


def selected(results: pathlib.Path, exp: str | None, setting: str | None) -> dict[pathlib.Path, list[schema.Files]]:
    """Setting folder -> the files of the chosen experiments in it; folders without any are left out.

    Copies of other rows are left out, with a line on stderr, as is an experiment of EXP that one of the folders does not have.

    Args:
        exp: numbers or names, separated by commas; by default all. setting: name of a setting; by default all.

    Raises:
        Misuse: an unknown experiment, or there are no rows of any.
    """
    copies, there = store.copies(results), {}
    for folder in store.setting_folders(results):
        in_setting = [files for files in store.experiments(folder) if setting in (None, store.setting_name(files))]
        for files in in_setting:
            if files in copies:
                print(f"{files.rows} holds the rows of {copies[files].rows}: it is left out as a copy", file=sys.stderr)
        if kept := [files for files in in_setting if files not in copies]:
            there[folder] = kept
    wanted = None if exp is None else [text.strip() for text in exp.split(",") if text.strip()]
    if wanted == []:
        raise Misuse(f"EXP must name experiments by their numbers: EXP=00,03. Received: {exp}")
    chosen = {folder: [files for files in kept if wanted is None or _named(files, wanted)] for folder, kept in there.items()}
    everywhere = [files for kept in chosen.values() for files in kept]
    absent = [text for text in wanted or () if not any(_named(files, [text]) for files in everywhere)]
    for text in absent:
        find_script(text)  # raises Misuse if there is no such experiment
    if not everywhere:
        where = f" in the {setting} setting" if setting else ""
        which = f"experiment{'s' if len(absent) > 1 else ''} {', '.join(absent)}" if absent else "any experiment"
        raise Misuse(f"there are no rows of {which}{where}: run first {_command(absent, setting)}. Received: {results}")
    for folder, kept in chosen.items():
        lacking = [text for text in wanted or () if not any(_named(files, [text]) for files in kept)]
        if kept and lacking:
            name = store.setting_name(kept[0])
            print(f"{folder.name} has no rows of {', '.join(lacking)}: {_command(lacking, name)}", file=sys.stderr)
    return {folder: kept for folder, kept in chosen.items() if kept}


def read(chosen: Mapping[pathlib.Path, Sequence[schema.Files]]) -> tuple[dict[pathlib.Path, list[Table]], int]:
    """The tables of experiments by folder, and the exit status: 1 if some cannot be read, each with a line on stderr."""
    folders: dict[pathlib.Path, list[Table]] = {}
    status = 0
    for folder, all_files in chosen.items():
        for files in all_files:
            try:
                folders.setdefault(folder, []).append(Table.read(files))
            except Failure as error:
                print(error, file=sys.stderr)
                status = error.status
    return folders, status


def spans(numbers: Sequence[str]) -> list[str]:
    """Numbers of experiments in a file's name: of four and more in a row the first and the last, as `00..38`."""
    rows: list[list[str]] = []
    for number in numbers:
        follows = rows and number.isdecimal() and rows[-1][-1].isdecimal() and int(number) == int(rows[-1][-1]) + 1
        if follows:
            rows[-1].append(number)
        else:
            rows.append([number])
    return [part for row in rows for part in ([f"{row[0]}..{row[-1]}"] if len(row) > 3 else row)]


def _named(files: schema.Files, wanted: Sequence[str]) -> bool:
    """Whether an experiment is among names and numbers."""
    return any(text == files.experiment or two_digits(text) == number_of(files.experiment) for text in wanted)


def _command(numbers: Sequence[str], setting: str | None) -> str:
    """The command that makes rows of experiments."""
    command = f"make all EXP={','.join(numbers)}" if len(numbers) > 1 else f"make exp-{numbers[0] if numbers else 'NN'}"
    return command + (f" SETTING={setting}" if setting not in (None, "quick") else "")
