"""Reading rows that a spreadsheet has saved or a user has edited."""

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
    """Rows and epochs of two arms with two seeds."""
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
    store.fold(files)
    return files


def save_as(path, *, separator=",", comma=False, bom=False, newline="\n", change=str):
    """Save a table in the format of a spreadsheet."""
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
    "booleans in capitals": {"change": lambda cell: cell.upper() if cell in ("True", "False") else cell},
    "scientific notation": {"change": lambda cell: "1,25E-05" if cell == "1.25e-05" else cell},
}


@pytest.mark.parametrize("how", SAVED.values(), ids=SAVED)
def test_a_table_saved_by_a_spreadsheet_is_read_unchanged(files, how):
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
def test_storing_a_trial_restores_the_format_of_the_others(files, how):
    before = files.rows.read_text()
    save_as(files.rows, **how)
    identity = {"experiment": "exp_90_x", "arm": "flip", "seed": 2}
    store.store(files, store.Outcome(row={**identity, "status": "done", "test_accuracy": 0.5}), ARMS)
    store.fold(files)
    after = files.rows.read_text().replace("1,25E-05", "1.25e-05").replace("1.25E-05", "1.25e-05")
    assert after.startswith(before)


def replaced(column, value):
    """f(path) that sets a column of the third line."""

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
    ("column", "value", "message"),
    [
        ("test_accuracy", "95", "must be between 0 and 1, not a percentage"),
        ("test_accuracy", "-0.1", "must be between 0 and 1, not a percentage"),
        ("test_accuracy", "good", "must be a number"),
        ("test_accuracy", "1.234,5", "must be a number"),
        ("test_accuracy", "inf", "a finished trial must have a score"),
        ("test_accuracy", "", "a finished trial must have a score"),
        ("test_accuracy", "nan", "a finished trial must have a score"),
        ("epochs", "20.5", "must be a whole number"),
        ("epochs", "-3", "must be at least 0"),
        ("epochs", "5,000", "must be a whole number, without decimals or thousands separators"),
        ("epochs", "5.000", "must be a whole number, without decimals or thousands separators"),
        ("epochs", "1²", "must be a number"),
        ("epochs", "", "must not be empty"),
        ("arguments", "", "must not be empty"),
        ("arguments", "{“l2”: 0.5}", 'must be a JSON object, such as {"l2": 0.1}'),
        ("setting", "7", 'must be a JSON object, such as {"l2": 0.1}'),
        ("seed", "", "must be a whole number"),
        ("seed", "one", "must be a number"),
        ("deterministic", "yes", "must be True or False"),
        ("status", "finished", "must be one of done, diverged, failed, unavailable"),
        ("fingerprint", "1.2E+14", "must be hexadecimal digits, which a spreadsheet has converted to a number"),
    ],
)
def test_an_invalid_cell_is_named_with_file_line_and_column(files, column, value, message):
    replaced(column, value)(files.rows)
    before = files.rows.read_text()
    for reader in (store.read_rows, store.read_frame) if "a score" not in message else (store.read_frame,):
        with pytest.raises(Failure) as caught:
            reader(files)
        assert str(caught.value) == (
            f"{files.rows} line 3, column {column}: {message}. Correct it, or delete the line: then this trial alone is trained "
            f"again. Received: {value!r}"
        )
    assert files.rows.read_text() == before


def test_empty_lines_and_columns_are_ignored(files):
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


def test_a_table_with_crlf_may_end_without_a_line_break(files):
    rows = store.read_rows(files)
    files.rows.write_bytes(files.rows.read_bytes().replace(b"\n", b"\r\n")[:-2])
    assert store.read_rows(files) == rows


def test_duplicate_rows_count_once(files):
    lines = files.rows.read_text().splitlines(keepends=True)
    files.rows.write_text("".join([*lines, lines[2]]))
    assert len(store.read_rows(files)) == len(store.read_frame(files)) == 4


def test_two_different_rows_of_one_trial_are_refused(files):
    lines = files.rows.read_text().splitlines(keepends=True)
    files.rows.write_text("".join([*lines, lines[2].replace("0.625", "0.75")]))
    with pytest.raises(Failure, match="lines 3 and 6: a trial must have one row: remove one of the two"):
        store.read_rows(files)


def test_a_table_in_another_encoding_is_refused(files):
    files.rows.write_bytes(files.rows.read_text().replace("flip", "flïp").encode("latin-1"))
    with pytest.raises(Failure, match="is not in UTF-8: save it as CSV in UTF-8, or restore the earlier file"):
        store.read_rows(files)


def test_a_copied_folder_is_recognised_by_the_end_times_of_its_trials(files):
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
    copy.rows.write_text("".join([*lines, f"{further}2026-11-28T08:00:00+00:00\n"]))  # a further trial in the copy
    assert store.copies(results) == {files: copy}
    copy.declaration.write_text("")
    assert store.copies(results) == {}
    shutil.copytree(files.folder, copy.folder, dirs_exist_ok=True)
    assert store.copies(results) == {copy: files}
    entries = list(ledger.entries(results))
    assert [str(entry) for entry in entries if isinstance(entry, Failure)] == [
        f"{copy.rows} holds the rows of {files.rows}: it is left out as a copy"
    ]
