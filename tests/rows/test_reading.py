"""Rows that somebody has opened in a spreadsheet: read as they were, or one line about the cell that cannot be."""

import csv
import io
import shutil

import pytest
from made import declared

from common.errors import Failure
from common.rows import schema, store
from common.verdicts import ledger

ARMS = ["baseline", "flip"]


@pytest.fixture
def files(tmp_path):
    """Two arms of two seeds."""
    files = schema.Files(tmp_path / "digits", "exp_90_x")
    for seed in range(2):
        for i, arm in enumerate(ARMS):
            identity = {"experiment": "exp_90_x", "arm": arm, "seed": seed}
            row = {
                **identity,
                "status": "done",
                "fingerprint": f"{i}{seed}ab",
                "test_accuracy": 0.5 + i / 8,
                "train_nll": 1.25e-05,
            }
            row |= {"deterministic": True, "epochs": 20, "reason": "", "arguments": '{"l2": 0.5}', "setting": "{}", "protocol": 3}
            epochs = [{**identity, "stage": "fit", "epoch": 1, "train_loss": 0.25, "val_accuracy": 0.75}]
            store.store(files, store.Outcome(row=row, epochs=epochs), ARMS)
    return files


def save_as(path, *, separator=",", comma=False, bom=False, newline="\n", change=str):
    """Save a table as a spreadsheet would."""
    rows = list(csv.reader(io.StringIO(path.read_text())))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=newline)
    writer.writerow(rows[0])
    for row in rows[1:]:
        cells = [change(cell) if not cell.startswith("{") else cell for cell in row]
        writer.writerow([cell.replace(".", ",") if comma and cell.replace(".", "").isdigit() else cell for cell in cells])
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())


SAVED = {
    "byte-order mark": {"bom": True},
    "lines of Windows": {"newline": "\r\n"},
    "semicolons": {"separator": ";"},
    "tabs": {"separator": "\t"},
    "decimal commas": {"separator": ";", "comma": True},
    "decimal commas between quotes": {"comma": True},
    "whole numbers with a point": {"change": lambda cell: f"{cell}.0" if cell.isdigit() else cell},
    "truth in capitals": {"change": lambda cell: cell.upper() if cell in ("True", "False") else cell},
    "scientific notation": {"change": lambda cell: "1,25E-05" if cell == "1.25e-05" else cell},
}


@pytest.mark.parametrize("how", SAVED.values(), ids=SAVED)
def test_what_a_spreadsheet_saves_is_read_as_it_was(files, how):
    rows, frame, epochs = store.read_rows(files), store.read_frame(files), store.read_epochs(files)
    for path in (files.rows, files.epochs):
        save_as(path, **how)
    again = store.read_rows(files)
    for row, before in zip(again, rows, strict=True):
        assert float(row.pop("train_nll")) == float(before.pop("train_nll"))
        assert row == before
    assert store.read_frame(files).equals(frame)
    assert store.read_epochs(files).equals(epochs)


@pytest.mark.parametrize("how", SAVED.values(), ids=SAVED)
def test_a_trial_that_is_stored_afterwards_leaves_the_others_as_they_were(files, how):
    before = files.rows.read_text()
    save_as(files.rows, **how)
    identity = {"experiment": "exp_90_x", "arm": "flip", "seed": 2}
    store.store(files, store.Outcome(row={**identity, "status": "done", "test_accuracy": 0.5}), ARMS)
    kept = files.rows.read_text().replace("1,25E-05", "1.25e-05").replace("1.25E-05", "1.25e-05")
    assert kept.startswith(before)


def replaced(column, value):
    """Put a value into a column of the third line."""

    def change(path):
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        rows[1][column] = value
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue())

    return change


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("test_accuracy", "95", "a share lies between 0 and 1, and is no percentage"),
        ("test_accuracy", "-0.1", "a share lies between 0 and 1, and is no percentage"),
        ("test_accuracy", "good", "a number is needed"),
        ("test_accuracy", "1.234,5", "a number is needed"),
        ("test_accuracy", "inf", "a trial that is done has a score"),
        ("test_accuracy", "", "a trial that is done has a score"),
        ("test_accuracy", "nan", "a trial that is done has a score"),
        ("epochs", "20.5", "a whole number is needed"),
        ("epochs", "-3", "a number of at least 0 is needed"),
        ("epochs", "5,000", "a whole number is needed, without decimals or marks between thousands"),
        ("epochs", "5.000", "a whole number is needed, without decimals or marks between thousands"),
        ("epochs", "1²", "a number is needed"),
        ("epochs", "", "each trial has one"),
        ("arguments", "", "each trial has one"),
        ("arguments", "{“l2”: 0.5}", 'a JSON object is needed, such as {"l2": 0.1}'),
        ("setting", "7", 'a JSON object is needed, such as {"l2": 0.1}'),
        ("seed", "", "a whole number is needed"),
        ("seed", "one", "a number is needed"),
        ("deterministic", "yes", "True or False is needed"),
        ("status", "finished", "must be one of done, diverged, failed, unavailable"),
        ("fingerprint", "1.2E+14", "a spreadsheet has made a number of these digits, which are lost"),
    ],
)
def test_a_cell_that_cannot_be_is_named_with_file_row_and_column(files, column, value, said):
    replaced(column, value)(files.rows)
    before = files.rows.read_text()
    for reader in (store.read_rows, store.read_frame) if "has a score" not in said else (store.read_frame,):
        with pytest.raises(Failure) as caught:
            reader(files)
        assert str(caught.value) == (
            f"{files.rows} line 3, column {column}: {said}. Put it right, or remove the line: its trial, and no other, is then "
            f"trained again. Received: {value!r}"
        )
    assert files.rows.read_text() == before


def test_blank_lines_and_columns_are_none(files):
    rows, frame = store.read_rows(files), store.read_frame(files)
    header, first, *others = files.rows.read_text().splitlines()
    blank = "," * header.count(",")
    files.rows.write_text(
        "\n".join([*(f"{line},," for line in (header, first, blank)), "", *(f"{line},," for line in others), "", ""])
    )
    assert store.read_rows(files) == rows
    assert store.read_frame(files).equals(frame)
    files.rows.write_text(files.rows.read_text().replace(",1,done", ",one,done", 1))
    with pytest.raises(Failure, match="line 6, column seed"):  # below the header, two rows and two blank lines
        store.read_rows(files)


def test_a_table_of_windows_may_end_without_a_line_break(files):
    rows = store.read_rows(files)
    files.rows.write_bytes(files.rows.read_bytes().replace(b"\n", b"\r\n")[:-2])
    assert store.read_rows(files) == rows


def test_a_row_that_stands_twice_counts_once(files):
    lines = files.rows.read_text().splitlines(keepends=True)
    files.rows.write_text("".join([*lines, lines[2]]))
    assert len(store.read_rows(files)) == len(store.read_frame(files)) == 4


def test_two_rows_of_one_trial_that_differ_are_named(files):
    lines = files.rows.read_text().splitlines(keepends=True)
    files.rows.write_text("".join([*lines, lines[2].replace("0.625", "0.75")]))
    with pytest.raises(Failure, match="lines 3 and 6: two rows of one trial that differ: remove one of them"):
        store.read_rows(files)


def test_a_table_in_another_encoding_is_one_line(files):
    files.rows.write_bytes(files.rows.read_text().replace("flip", "flïp").encode("latin-1"))
    with pytest.raises(Failure, match="is not in UTF-8: save it as CSV in UTF-8, or put back what was there before"):
        store.read_rows(files)


def test_a_copied_folder_is_known_by_its_trials_and_when_they_ended(files):
    replaced("finished", "2026-11-27T08:00:00+00:00")(files.rows)
    store.write_declaration(files, declared())
    results = files.folder.parent
    copy, again = (schema.Files(results / name, files.experiment) for name in ("digits (copy)", "digits-epochs=5"))
    for other in (copy, again):
        shutil.copytree(files.folder, other.folder)
    replaced("finished", "2026-11-27T09:00:00+00:00")(again.rows)  # trained again, with the same bits
    assert store.copies(results) == {copy: files}
    lines = copy.rows.read_text().splitlines(keepends=True)
    further = lines[-1].replace("11ab", "12ab").replace("flip,", "flop,").rstrip("\n").rstrip("0123456789T:+-")
    copy.rows.write_text("".join([*lines, f"{further}2026-11-28T08:00:00+00:00\n"]))  # the copy was gone on with
    assert store.copies(results) == {files: copy}
    copy.declaration.write_text("")
    assert store.copies(results) == {}
    shutil.copytree(files.folder, copy.folder, dirs_exist_ok=True)
    assert store.copies(results) == {copy: files}
    entries = list(ledger.entries(results))
    assert [str(entry) for entry in entries if isinstance(entry, Failure)] == [
        f"{copy.rows} holds the rows of {files.rows}: it is left out as a copy"
    ]
