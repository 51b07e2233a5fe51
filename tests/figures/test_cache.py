"""Figures are drawn when what determines them has changed, and else not touched; on one core or several, whatever fails."""

import importlib.metadata
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from made import CHECKSUM, declared, two_arms

from common.commands import outcome
from common.data.cache import cached_class_names
from common.figures import cache, copies, draw
from common.files import array_bytes, write_atomic
from common.rows import store

KINDS = ("accuracy", "verdicts", "curves", "seconds", "confusion")
"""Figures of `made`."""


@pytest.fixture
def files(tmp_path):
    return two_arms(tmp_path)


def add_logits(files):
    """Logits of all trials, with which reliability is drawn."""
    for row in store.read_rows(files):
        logits = np.random.default_rng(int(row["seed"])).normal(size=(400, 10)).astype(np.float32)
        write_atomic(files.local("logits", row["arm"], int(row["seed"]), ".npy"), array_bytes(logits))


def figures(folder):
    """Name -> bytes and time of change of each figure."""
    paths = sorted([*folder.rglob("*.png"), *folder.rglob("*.svg")])
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def redraw(files, **options):
    """The figures after they are redrawn, see `figures`."""
    (drawn,) = cache.redraw([files], **options)
    assert drawn.error == ""
    return figures(files.folder)


def refuse(*_, **__):
    raise AssertionError("it is drawn")


def add_trial(files):
    row = {"experiment": files.experiment, "arm": "a", "seed": 9, "status": "done", "test_accuracy": 0.5, "test_size": 400}
    store.store(files, store.Outcome(row=row), ["a", "b"])


def test_figures_of_an_unchanged_experiment_are_neither_drawn_nor_written(files, monkeypatch):
    before = redraw(files)
    assert set(before) == {f"exp_90_made_{kind}.png" for kind in KINDS}
    monkeypatch.setattr(draw, "draw", refuse)
    (drawn,) = cache.redraw([files])
    assert [path.name for path in drawn.paths] == [f"exp_90_made_{kind}.png" for kind in KINDS]
    assert figures(files.folder) == before


def test_they_are_not_touched_in_a_fresh_clone_either_which_has_neither_times_nor_logits(files, tmp_path, monkeypatch):
    add_logits(files)
    assert "exp_90_made_reliability.png" in redraw(files)
    clone = files._replace(folder=tmp_path / "clone" / files.folder.name)
    shutil.copytree(
        files.folder, clone.folder, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("logits", "*.webp", ".lock")
    )
    before = figures(clone.folder)
    monkeypatch.setattr(draw, "draw", refuse)
    assert redraw(clone) == before
    assert len(before) == len(KINDS) + 1


def append(name):
    """A function that appends a byte to a file of an experiment."""

    def change(files, monkeypatch):
        path = getattr(files, name)
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n")

    return change


def change_code(files, monkeypatch):
    monkeypatch.setattr(cache, "CODE", ("figures/*.py",))


def change_version(files, monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(cache.importlib.metadata, "version", lambda name: "4.0" if name == "matplotlib" else version(name))


def change_logits(files, monkeypatch):
    add_logits(files)


CHANGES = {
    **{name: append(name) for name in ("rows", "epochs", "measures", "predictions", "samples", "declaration", "points", "tuned")},
    "code": change_code,
    "version of Matplotlib": change_version,
    "logits": change_logits,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_determines_figures_is_in_their_stamp(files, monkeypatch, what):
    def job():
        cache._versions.cache_clear()
        return cache.Drawing(files, cache._key(files), cache._local(files), svg=False, copies=False)

    redraw(files)
    assert cache._up_to_date(job())
    CHANGES[what](files, monkeypatch)
    assert cache._up_to_date(job()) is None
    cache._versions.cache_clear()


def test_test_images_in_the_data_cache_determine_figures_of_mistakes(files, tmp_path, monkeypatch):
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "cache"))
    add_logits(files)
    before = cache._local(files)
    for name, checksum in (("other", "d" * 64), ("same", CHECKSUM)):
        write_atomic(tmp_path / "cache" / name / "meta.json", f'{{"checksum": "{checksum}", "class_names": ["cat"]}}'.encode())
        assert cached_class_names()[checksum] == ["cat"]
        assert (cache._local(files) == before) is (name == "other")


def test_every_module_that_drawing_imports_is_in_the_stamp():
    code = (
        "import sys\nfrom common.figures import copies, draw, search\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('common.') and m.__file__], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    imported = {os.path.relpath(line, PROJECT / "common") for line in done.stdout.split()}
    assert len(imported) > 20
    assert imported <= set(cache._versions())


def test_svg_is_written_only_where_it_is_asked_for(files):
    png = redraw(files)
    both = redraw(files, svg=True)
    assert {name: both[name] for name in png} == png
    assert {name.removesuffix(".svg") for name in set(both) - set(png)} == {name.removesuffix(".png") for name in png}
    assert redraw(files) == both  # the rows are the same, so the SVG is up to date
    assert redraw(files, svg=True) == both


def test_an_svg_does_not_survive_the_rows_it_was_drawn_from(files):
    before = redraw(files, svg=True)
    add_trial(files)
    after = redraw(files)
    assert set(after) == {name for name in before if name.endswith(".png")}
    assert after["exp_90_made_accuracy.png"][0] != before["exp_90_made_accuracy.png"][0]
    again = redraw(files, svg=True)
    assert set(again) == set(before)
    assert again["exp_90_made_accuracy.svg"][0] != before["exp_90_made_accuracy.svg"][0]


def test_a_figure_that_was_deleted_is_drawn_again_and_the_others_are_not_touched(files):
    before = redraw(files)
    (files.folder / "exp_90_made_curves.png").unlink()
    after = redraw(files)
    assert after.pop("exp_90_made_curves.png")[0] == before.pop("exp_90_made_curves.png")[0]
    assert after == before


def test_a_figure_that_the_rows_no_longer_allow_is_removed_but_not_one_of_logits_that_are_elsewhere(files):
    add_logits(files)
    redraw(files)
    shutil.rmtree(files.folder / "logits")
    store.write_declaration(files, declared(arms={"a": {}, "b": {}}, baseline="b"))
    assert set(redraw(files)) == {f"exp_90_made_{kind}.png" for kind in (*KINDS, "reliability") if kind != "verdicts"}


@pytest.mark.slow
def test_a_damaged_stamp_means_that_nothing_is_known(files):
    before = redraw(files)
    (stamp,) = (files.folder / ".figures").glob("*.json")
    for content in ("", "[]", '{"key": "k"}'):
        stamp.write_text(content)
        assert redraw(files) == before


def test_small_copies_are_made_where_they_are_missing_without_drawing(files, monkeypatch):
    before = redraw(files, copies=True)
    made = {copies.copy_of(path) for _, path in copies.paths(files)}
    assert all(path.exists() for path in made)
    for path in made:
        path.unlink()
    monkeypatch.setattr(draw, "draw", refuse)
    assert redraw(files, copies=True) == before
    assert all(path.exists() for path in made)


@pytest.mark.slow
def test_on_several_cores_the_figures_and_their_order_are_those_of_one(tmp_path, monkeypatch):
    drawn = {}
    for count in (1, 2):
        monkeypatch.setattr(cache, "cores", lambda count=count: count)
        experiments = [two_arms(tmp_path / f"{count}", name) for name in ("exp_90_made", "exp_91_made", "exp_92_made")]
        drawn[count] = [[path.name for path in one.paths] for one in cache.redraw(experiments)]
    assert drawn[1] == drawn[2] == [[f"exp_{n}_made_{kind}.png" for kind in KINDS] for n in (90, 91, 92)]
    first, second = (figures(tmp_path / name) for name in ("1", "2"))
    assert {name: content for name, (content, _) in first.items()} == {name: content for name, (content, _) in second.items()}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_one_experiment_is_one_line_and_the_others_are_drawn(tmp_path, monkeypatch, count):
    monkeypatch.setattr(cache, "cores", lambda: count)
    experiments = [two_arms(tmp_path, name) for name in ("exp_90_made", "exp_91_made", "exp_92_made")]
    experiments[1].rows.write_text("not,ours\n1,2\n")
    drawn = list(cache.redraw(experiments))
    assert [len(one.paths) for one in drawn] == [len(KINDS), 0, len(KINDS)]
    assert [one.error.count("exp_91_made.csv line 1") for one in drawn] == [0, 1, 0]
    assert "\n" not in drawn[1].error


def test_an_error_while_drawing_is_one_line(files, monkeypatch):
    def fail(*_, **__):
        raise ValueError("Unknown symbol:\n$")

    monkeypatch.setattr(draw, "draw", fail)
    (drawn,) = cache.redraw([files])
    error = f"the figures of exp_90_made in {files.folder} cannot be drawn (ValueError: Unknown symbol: $)"
    assert drawn == ([], error)


def test_the_end_of_a_run_prints_the_figures_and_draws_svg_where_it_is_asked_for(files, capsys):
    for svg in (False, True):
        outcome.show(files, "accuracy", svg=svg)
        shown = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".png")]
        assert shown == [str(files.folder / f"exp_90_made_{kind}.png") for kind in KINDS]
        assert len(list(files.folder.glob("*.svg"))) == svg * len(KINDS)
