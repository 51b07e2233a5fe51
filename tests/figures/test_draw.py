import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from made import declared
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.markers import MarkerStyle
from matplotlib.text import Text

from common.commands import plots
from common.figures import curves, draw, effects, predictions, profiles, scores, search, sensitivity, style, verdicts
from common.rows import schema, store
from common.rows.metric import Primary
from common.rows.table import Table
from common.text import Unit
from common.verdicts.effects import BASELINE, Comparison, Effect, ordered
from common.verdicts.verdict import NO_VERDICT, OPEN, REFUTED, SUPPORTED, Change, Verdict

ARMS = {"baseline": {}, "a rather long name of an arm": {}, "diverging": {}}


@pytest.fixture
def files(tmp_path):
    """Files of three arms and three seeds; one trial diverged, another failed."""
    files = schema.Files(tmp_path / "digits", "exp_90_x")
    generator = np.random.default_rng(0)
    for seed in range(3):
        for i, arm in enumerate(ARMS):
            identity = {"experiment": files.experiment, "arm": arm, "seed": seed}
            diverged = arm == "diverging" and seed == 1
            row = {**identity, "status": "diverged" if diverged else "done", "test_accuracy": 0.9 + 0.01 * i + 0.01 * seed}
            row |= {"train_size": 300, "epochs": 5, "batch_size": 32, "test_size": 359}
            losses = [2.0 / (1 + e) for e in range(5)] if not diverged else [2.0, float("inf")]
            epochs = [
                {**identity, "stage": "fit", "epoch": e + 1, "train_loss": loss, "val_accuracy": 1 - loss / 4}
                for e, loss in enumerate(losses)
            ]
            samples = generator.integers(0, 255, (8, 28, 28, 1), dtype=np.uint8) if seed == 0 else None
            store.store(files, store.Outcome(row=row, epochs=epochs, samples=samples), list(ARMS))
    failed = {"experiment": files.experiment, "arm": "baseline", "seed": 3, "status": "failed", "reason": "x"}
    store.store(files, store.Outcome(row=failed), list(ARMS))
    question = "does a figure stand whatever its rows are, and how long may a question be?"
    store.write_declaration(files, declared(arms=ARMS, question=question))
    return files


UGLY = "font.size: 30\nlines.linewidth: 9\nsavefig.dpi: 20\nsavefig.bbox: tight\nsvg.fonttype: none\ntext.usetex: True\n"


def removed(files):
    """Name -> bytes of each figure, which is removed so that it is drawn again."""
    paths = list(files.folder.glob("*_*.[ps][nv]g"))
    content = {path.name: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    return content


def test_settings_of_matplotlib_do_not_change_figures(files, tmp_path):
    """Neither MPLBACKEND nor a matplotlibrc nor rcParams of the drawing process have an effect."""
    (tmp_path / "matplotlibrc").write_text(UGLY)
    options = ["--results", str(tmp_path), "--svg"]
    variables = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path)}
    drawn = []
    for added in ({}, variables):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), **added}
        command = [sys.executable, "-m", "common.commands.plots", *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        drawn.append(removed(files))
    with rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20, "svg.fonttype": "none", "axes.facecolor": "red"}):
        draw.draw(files, svg=True)
    drawn.append(removed(files))
    assert len(drawn[0]) == 8
    assert drawn[1] == drawn[0] == drawn[2]


def texts(figure):
    """Text and bounding box, in pixels, of each visible text of a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    undrawn = set()  # labels of ticks beyond the axes' limits
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            undrawn |= {id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    found = figure.findobj(Text)
    shown = [t for t in found if t.get_text().strip() and t.get_visible() and id(t) not in undrawn]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in shown]


def test_each_figure_is_drawn_beside_the_rows(files):
    paths = draw.draw(files)
    assert [path.name for path in paths] == [f"exp_90_x_{kind}.png" for kind in ("accuracy", "curves", "survival", "samples")]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths)


def test_drawing_twice_gives_the_same_bytes(files):
    before = [path.read_bytes() for path in draw.draw(files)]
    assert before == [path.read_bytes() for path in draw.draw(files)]


TITLE = "exp_90_x: does a figure stand whatever its rows are, and how long may a question be if it is to stay within the figure?"


def compared(number, arms):
    """A comparison with long names, arms at two rates, without an interval and without rows."""
    texts = ["an arm with a name so long that it takes more than one line of the figure", "腕の名前は長い" * 4, "$x_2$", "plain"]
    found = []
    for i in range(arms):
        name, size = f"{texts[i % 4]} {i}", (-0.3) ** (i % 4) * (1 + number) / 40
        found.append(Effect(name, "own", "baseline", 5, 0.9, 0.8, size, size - 0.01, size + 0.01, diverged=i % 2))
        found.append(Effect(name, "common", "baseline", 1, 0.9, 0.8, size / 2))
    found.append(Effect("never", "own", "baseline", reason="unavailable: a reason that is much too long to stand beside an arm"))
    question = "is a question that is rather long, as questions of experiments are, also shown when it does not fit on a line?"
    return Comparison(
        experiment=f"exp_{number:02d}_made",
        question=question,
        dataset="mnist",
        reference="baseline",
        role=BASELINE,
        training="5 epochs, batch 32",
        weights={},
        metric="test_accuracy",
        label="test accuracy" if number % 5 else "test error (degrees)",
        direction=1 if number % 5 else -1,
        margin=0.015 if number % 3 else None,
        reference_mean=0.85,
        effects=tuple(found),
    )


def others():
    """Figures of all kinds that the rows of `files` do not allow."""
    rates = [10.0**-i for i in range(5)]
    arms = {f"{name} {rate:g}": rate for name in ("SGD", "Adam") for rate in rates} | {"none": 0.0}
    rows = pd.DataFrame([{"arm": arm, "seed": s, "test_accuracy": 0.9 - s / 50} for arm in arms for s in range(3)])
    groups = {name: {arm: rate for arm, rate in arms.items() if arm.startswith(name)} for name in ("SGD", "Adam")}
    groups = {f"{name} with a rather long name: 1.3 decades": own for name, own in groups.items()} | {"l2": {"none": 0.0}}
    yield sensitivity.sensitivity(rows, groups, "learning_rate", TITLE, "caption")
    names = {f"arm {i}": f"arm {i} (under-searched)" for i in range(12)}
    curve = pd.DataFrame({"points": range(1, 9), "expected": np.linspace(0.5, 0.9, 8), "chance": np.linspace(0, 0.2, 8)})
    yield search.progress(dict.fromkeys(names, curve), dict.fromkeys(names, 0.4), names, TITLE, "caption")
    points = pd.DataFrame(
        [
            {"arm": arm, "score": 0.5, "learning_rate": 10**-i, "width": 8 + i, "kind": ["none", "batch"][i % 2], "rate": i / 9}
            | {"operation": f"operation {i}"}
            for arm in names
            for i in range(9)
        ]
    )
    scales = {"learning_rate": "log", "width": "log", "kind": "choice", "rate": "linear", "operation": "choice"}
    yield search.sensitivity(points, scales, names, TITLE, "caption")
    optimizers = ("Adagrad", "Adam", "Lion", "Nesterov", "RMSprop", "SGD")
    tried = pd.DataFrame({"arm": "a", "score": 0.5, "optimizer": optimizers, "learning_rate": [10**-i for i in range(6)]})
    yield search.sensitivity(tried, {"optimizer": "choice", "learning_rate": "log"}, {"a": "a searched one"}, TITLE, "caption")
    error = Primary("error", lower_is_better=True, display="error (degrees, mean absolute)")
    yield search.progress(dict.fromkeys(names, curve), dict.fromkeys(names, 0.4), names, TITLE, "caption", error)
    yield search.sensitivity(points, {"learning_rate": "log"}, names, TITLE, "caption", error)
    yield sensitivity.crossed(rows, {arm: (arm.split()[0], rate) for arm, rate in arms.items() if rate}, "rate", TITLE, "caption")
    about = {"metric": "test_accuracy", "margin": 0.01, "seeds": 5, "level": 0.01, "p": 0.5}
    intervals = [(0.02, 0.01, 0.03), (-0.5, -9.0, 0.2), (0.5, 0.3, 0.7), (0.0, -np.inf, np.inf)]
    text = "a claim that is rather long, as claims tend to be once they say what they mean"
    yield verdicts.forest(
        [
            Verdict(id="rather-long", text=text, status=status, difference=d, low=low, high=high, **about)
            for (d, low, high), status in zip(intervals, (SUPPORTED, REFUTED, OPEN, NO_VERDICT), strict=True)
        ],
        TITLE,
        "caption",
    )
    trials = [
        {"arm": arm, "entry": arm, "seed": s, "test_accuracy": 0.9 - s / 50, "seconds": 1 + i, "status": schema.FINAL[s == i]}
        for i, arm in enumerate(names)
        for s in range(5)
    ]
    yield scores.cost(pd.DataFrame(trials), list(names), "seconds", "seconds of training", TITLE, "caption")
    yield scores.survival(pd.DataFrame(trials), list(names), TITLE, "caption")
    counts = np.random.default_rng(0).integers(0, 30, (10, 10)) + 300 * np.eye(10, dtype=int)
    yield predictions.confusions(
        {"baseline": counts, "an arm with quite a long name, as some have": counts[::-1]}, TITLE, "caption"
    )
    line = np.linspace(0.1, 1, 10)
    yield predictions.reliability(dict.fromkeys(names, (line, line**2)), list(names), TITLE, "caption")
    steps = [
        {"arm": arm, "seed": s, "target": t, "steps": 10 * 4**s + i, "reached": s < 2, "diverged": s == 3}
        for i, arm in enumerate(names)
        for s in range(5)
        for t in (0.5, 0.9)
    ]
    yield curves.steps_to_target(pd.DataFrame(steps), list(names), TITLE, "caption")
    measures = [
        {"arm": arm, "name": name, "value": 10.0**i * seed, "unit": "of a unit with a long name"}
        for i, arm in enumerate(names)
        for seed in range(5)
        for name in ("a measure", "decades between first and last layer, untrained", "third", "fourth")
    ]
    yield scores.measured(pd.DataFrame(measures), list(names), TITLE, "caption")
    yield effects.effects(ordered([*(compared(i, 3) for i in range(3))]), TITLE, "caption")
    yield effects.effects(ordered([compared(i, 1 + i % 2) for i in range(40)]), TITLE, "caption")
    yield verdicts.forest(
        [Verdict(id="c", text=text, status=OPEN, difference=i / 9, low=-1.0, high=2.0, **about) for i in range(9)],
        TITLE,
        "caption",
        [f"{i:02d}  {text}" for i in range(9)],
    )
    layers = [
        {"arm": arm, "name": f"gradient norm of layer {n}, {when}", "value": 10.0 ** (n * i / 4 - seed)}
        for i, arm in enumerate(names)
        for n in range(1, 7)
        for seed in range(3)
        for when in ("untrained", "trained")
    ]
    yield profiles.profiles(profiles.numbered(pd.DataFrame(layers)), list(names), TITLE, "caption")
    mistake = predictions.Mistake(np.zeros((8, 8, 3), np.uint8), "a class with a long name", "another class", 0.999)
    yield predictions.most_confident(
        {"baseline": [mistake] * 8, "an arm with quite a long name": [mistake] * 3}, TITLE, "caption"
    )


def test_no_text_overlaps_another_or_leaves_the_figure(files):
    for figure in [*(figure for _, figure in draw.figures(Table.read(files))), *others()]:
        boxes = texts(figure)
        for i, (text, box) in enumerate(boxes):
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
            for other, other_box in boxes[:i]:
                assert not box.padded(-1).overlaps(other_box.padded(-1)), (text, other)


def test_texts_of_claims_are_apart_however_long():
    """A claim of four lines ended where the next one began."""
    text = " ".join(["one of several long claims"] * 5)
    about = {"metric": "test_accuracy", "margin": 0.01, "seeds": 5, "level": 0.01, "p": 0.5}
    claims = [Verdict(id="c", text=text, status=OPEN, difference=0.1, low=-0.1, high=0.3, **about) for _ in range(4)]
    boxes = [box for shown, box in texts(verdicts.forest(claims, "title", "caption")) if shown.startswith("one of")]
    assert len(boxes) == 4
    gaps = [above.y0 - below.y1 for above, below in itertools.pairwise(sorted(boxes, key=lambda box: -box.y0))]
    line = boxes[0].height / 4
    assert min(gaps) > line / 2


def test_both_halves_of_a_claim_are_drawn():
    """The gap alone was: far beyond its margin, and yet the claim was open."""
    gap = Change(Unit("gap"), 0.01, -0.05, -0.07, -0.03, 0.01, SUPPORTED, -1.0)
    score = Change(Unit("test accuracy"), 0.02, -0.03, -0.05, -0.01, 0.01, OPEN, marks=(-1,))
    about = {"metric": "gap", "margin": 0.01, "seeds": 5, "level": 0.01, "p": 0.5, "changes": (gap, score)}
    claim = Verdict(id="c", text="it overfits less", status=OPEN, difference=0.05, low=0.03, high=0.07, **about)
    (axis,) = verdicts.forest([claim], "title", "caption").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["it overfits less (open):\ngap", "test accuracy"]
    assert [note.get_text() for note in axis.texts] == [SUPPORTED, OPEN]
    spans = [collection.get_segments()[0][:, 0] for collection in axis.collections if isinstance(collection, LineCollection)]
    np.testing.assert_allclose(spans, [(3, 7), (1, 1), (-2.5, -0.5), (-1, -1)])  # with the margin of each


def test_the_accuracy_figure_shows_every_seed_and_the_mean(files):
    figure = scores.final_scores(Table.read(files).rows, list(ARMS), "title", "caption")
    dots = np.concatenate(
        [c.get_offsets().data[:, 0] for c in figure.axes[0].collections if len(c.get_offsets()) and hasattr(c, "get_sizes")]
    )
    assert sorted(np.round(dots, 6)) == sorted(np.round(0.9 + 0.01 * i + 0.01 * s, 6) for i in range(3) for s in range(3))


def test_the_accuracy_figure_marks_trials_that_did_not_train(files):
    rows = Table.read(files).rows
    (axis,) = scores.final_scores(rows, list(ARMS), "title", "caption").axes
    assert "did not train" not in axis.get_xlabel()
    dead = (rows["arm"] == "baseline") & (rows["seed"] == 1)
    (marked,) = scores.final_scores(rows.assign(trained=np.where(dead, "False", "True")), list(ARMS), "title", "caption").axes
    assert marked.get_xlabel().endswith("▽: did not train)")
    shapes = [c for c in marked.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    style_of_mark = MarkerStyle("v")
    triangle = style_of_mark.get_path().transformed(style_of_mark.get_transform()).vertices
    alone = [c for c in shapes if np.array_equal(c.get_paths()[0].vertices, triangle)]
    assert [c.get_offsets().data[0, 0] for c in alone] == pytest.approx(rows.loc[dead, "test_accuracy"].tolist())


def test_a_profile_has_a_line_per_arm_of_the_means_at_the_numbers_in_the_names(files):
    named = {
        "gradient norm at true-class probability 0.3": 4.0,
        "gradient norm at true-class probability 0.1": 2.0,
        "decades between layers": 9.0,
    }
    measures = [
        {"experiment": files.experiment, "arm": arm, "seed": seed, "name": name, "value": value + seed, "unit": ""}
        for arm in ("baseline", "diverging")
        for seed in (0, 2)
        for name, value in named.items()
    ]
    (axis,) = profiles.profiles(profiles.numbered(pd.DataFrame(measures)), list(ARMS), "title", "caption").axes
    assert [line.get_label() for line in axis.get_lines()] == ["baseline", "diverging"]
    assert axis.get_lines()[0].get_xydata().tolist() == [[0.1, 3.0], [0.3, 5.0]]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_yscale()) == ("true-class probability", "gradient norm", "linear")
    row = store.read_rows(files)[0]
    recorded = [{key: value for key, value in one.items()} for one in measures if (one["arm"], one["seed"]) == ("baseline", 0)]
    store.store(files, store.Outcome(row=row, measures=recorded), list(ARMS))
    for asked, drawn in (([], False), (["profiles"], True)):
        table = Table.read(files)
        table.declaration["figures"] = asked
        assert any("_profiles" in path.name for path, _ in draw.figures(table)) is drawn


def test_arms_have_distinct_looks():
    arms = [f"arm {i}" for i in range(24)]
    looks = [tuple(style.look(arms, arm).values()) for arm in arms]
    assert len(set(looks)) == 24


def test_an_arm_at_the_common_rate_has_the_arms_colour_and_hollow_dots():
    trained = [("a", "own"), ("b", "own"), ("b", "common"), ("a", "common")]
    entries = [schema.entry_name(arm, rate) for arm, rate in trained]
    rows = pd.DataFrame(
        [
            {"arm": arm, "rate": rate, "entry": entry, "seed": s, "test_accuracy": s / 5, "status": "done"}
            for (arm, rate), entry in zip(trained, entries, strict=True)
            for s in range(3)
        ]
    )
    (axis,) = scores.final_scores(rows, entries, "title", "caption").axes
    scatters = [dots for dots in axis.collections if isinstance(dots, PathCollection) and len(dots.get_offsets())]
    filled = [len(dots.get_facecolors()) > 0 for dots in scatters]
    assert filled == [True, True, False, False]
    a, b, b_common, a_common = [
        tuple(dots.get_edgecolors()[0]) if not full else tuple(dots.get_facecolors()[0])
        for dots, full in zip(scatters, filled, strict=True)
    ]
    assert a[:3] == a_common[:3] != b[:3] == b_common[:3]


@pytest.mark.parametrize(("numbers", "ticks"), [((3, 5, 7), ["3", "5", "7"]), ((0.1, 0.101, 1), ["0.1", "0.2", "0.5", "1"])])
def test_a_sensitivity_has_ticks_at_the_arms_numbers_where_labels_have_room(numbers, ticks):
    rows = pd.DataFrame([{"arm": str(n), "seed": s, "test_accuracy": s / 5} for n in numbers for s in range(3)])
    (axis,) = sensitivity.sensitivity(rows, {"all": {str(n): n for n in numbers}}, "size", "title", "caption").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ticks


def test_an_arm_that_has_no_value_of_a_choice_is_left_out_of_its_plot():
    """As text, whose type pandas keeps for an empty column."""
    points = pd.DataFrame({"arm": ["a", "a", "b"], "score": [0.5, 0.6, 0.7], "norm": ["none", "batch", None]})
    (axis,) = search.sensitivity(points, {"norm": "choice"}, {"a": "a", "b": "b"}, "title", "caption").axes
    assert [len(dots.get_offsets()) for dots in axis.collections] == [2, 0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["batch", "none"]


def test_a_choice_of_numbers_that_one_arm_has_is_labelled_by_whole_numbers():
    points = pd.DataFrame({"arm": ["a", "a", "b"], "score": 0.5, "size": [3, 7, None]})
    (axis,) = search.sensitivity(points, {"size": "choice"}, {"a": "a", "b": "b"}, "title", "caption").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["3", "7"]


def test_steps_to_target_count_updates_and_mark_seeds_that_did_not_reach_it(files):
    rows = store.read_frame(files).query("status != 'failed'").assign(steps=50.0, final_epoch=5, val_accuracy=0.8)
    declaration = {"arms": ARMS, "question": "?", "baseline": "baseline", "protocol": 3}
    table = Table(files, rows, store.read_epochs(files), store.read_measures(files), {}, declaration)
    # Epoch e has a validation accuracy of 1 - 0.5 / e, so that 0.76 (95 % of 0.8) is first passed in epoch 3.
    targets, note = curves.targets(table, ["steps"])
    assert targets == [0.76]
    assert note == "target: 95 % of the mean final score of baseline"
    found = curves.updates_to_targets(table, table.rows, targets).set_index(["arm", "seed"])
    assert found.loc[("baseline", 0), ["steps", "reached"]].tolist() == [30.0, True]
    assert found.loc[("diverging", 1), ["steps", "reached", "diverged"]].tolist() == [50.0, False, True]
    assert len(found) == 9
    assert curves.targets(table, []) == ([], "")
    declaration["claims"] = [{"metric": "epochs_to_target", "target": 0.5}]
    assert curves.targets(table, []) == ([0.4], "target: 50 % of the mean final score of baseline")


@pytest.fixture
def logits(tmp_path, monkeypatch):
    """Files with logits of two seeds of one arm on three test images, and a cache that holds the images."""
    files = schema.Files(tmp_path / "rows", "exp_90_x")
    labels = np.array([0, 1, 1])
    for seed in range(2):
        logits = np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.8 - 0.4 * seed, 0.2 + 0.4 * seed]], np.float32))
        row = {"experiment": "exp_90_x", "arm": "baseline", "seed": seed, "status": "done", "test_accuracy": 1 / 3}
        row["data_checksum"] = "c" * 64
        store.store(files, store.Outcome(row=row, predicted=logits.argmax(1), logits=logits), ["baseline"])
    store.write_labels(files, schema.labels_key("c" * 64), labels)
    store.write_declaration(files, declared(arms={"baseline": {}}, baseline="baseline"))
    cached = tmp_path / "cache" / "some"
    cached.mkdir(parents=True)
    np.save(cached / "test_images.npy", np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1))
    np.save(cached / "test_labels.npy", labels)
    (cached / "meta.json").write_text(json.dumps({"checksum": "c" * 64, "class_names": ["cat", "dog"]}))
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "cache"))
    return files


def test_the_most_confident_mistakes_use_the_mean_probability_over_seeds(logits):
    (mistake, second) = predictions.surest_mistakes(Table.read(logits), ["baseline"])["baseline"]
    # Mean probabilities of cat: 0.9, 0.7, 0.6 (the second seed alone is right there); the last two are dogs.
    assert (mistake.label, mistake.predicted, second.label) == ("dog", "cat", "dog")
    assert (mistake.confidence, second.confidence) == pytest.approx((0.7, 0.6))
    assert mistake.image.ravel().tolist() == [4, 5, 6, 7]


def test_without_logits_or_images_there_are_no_mistakes(logits, tmp_path):
    (tmp_path / "cache" / "some" / "meta.json").write_text('{"checksum": "of other data"}')
    assert predictions.surest_mistakes(Table.read(logits), ["baseline"]) == {}
    shutil.rmtree(logits.folder / "logits")
    assert predictions.surest_mistakes(Table.read(logits), ["baseline"]) == {}


def test_a_mean_over_seeds_ends_where_the_first_of_them_does(files):
    """The mean of those that go on would be of other seeds."""
    epochs = store.read_epochs(files)
    axis = curves.learning_curves(epochs, list(ARMS), "title", "caption").axes[0]
    lines = [line.get_xydata() for line in axis.get_lines() if line.get_color() == style.look(list(ARMS), "diverging")["color"]]
    assert [line[:, 0].tolist() for line in lines] == [[1], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]
    assert lines[0][0, 1] == 2.0
    baseline = [line for line in axis.get_lines() if line.get_label() == "baseline"]
    assert len(baseline[0].get_xdata()) == 5


def test_zeros_of_a_logarithmic_profile_are_at_its_lower_edge(files):
    values = {1: 1.0, 2: 1e-3, 3: 0.0}
    measures = [
        {
            "experiment": files.experiment,
            "arm": "baseline",
            "seed": seed,
            "name": f"norm of layer {at}",
            "value": value,
            "unit": "",
        }
        for seed in range(2)
        for at, value in values.items()
    ]
    figure = profiles.profiles(profiles.numbered(pd.DataFrame(measures)), list(ARMS), "title", "caption")
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    marked = axis.get_lines()[-1]
    assert (marked.get_marker(), marked.get_xydata().tolist()) == ("v", [[3.0, pytest.approx(axis.get_ylim()[0])]])
    assert any("▽: 0" in text.get_text() for text in figure.findobj(Text))


def test_survival_names_seeds_by_their_numbers(files):
    rows = Table.read(files).rows
    (axis,) = scores.survival(rows[rows["seed"] != 0], list(ARMS), "title", "caption").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2"]
    (axis,) = scores.survival(rows.drop(rows.index[0]), list(ARMS), "title", "caption").axes
    assert axis.get_xlabel() == "seed (×: diverged; white: no row)"


def test_a_diverging_arm_does_not_flatten_the_others(files):
    epochs = store.read_epochs(files)
    epochs.loc[epochs["arm"] == "diverging", "train_loss"] = 1e6
    figure = curves.learning_curves(epochs, list(ARMS), "title", "caption")
    assert figure.axes[0].get_ylim()[1] < 100


def test_plots_need_no_tensorflow_and_a_damaged_file_stops_only_its_figures(files):
    folder = files.folder.parent
    broken = schema.Files(files.folder, "exp_91_y")
    store.write_declaration(broken, declared(arms=ARMS))
    broken.rows.write_text("not,ours\n1,2\n")
    code = (
        f"import sys; sys.argv = ['report', '--results', {str(folder)!r}]\n"
        "import runpy, atexit\n"
        "atexit.register(lambda: print('slow:', sorted({'tensorflow', 'keras', 'sklearn'} & set(sys.modules))))\n"
        "runpy.run_module('common.commands.plots', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "slow: []" in done.stdout
    assert done.stdout.count(".png") == 4
    assert done.stderr.count("\n") == 1
    assert "exp_91_y.csv line 1" in done.stderr


def test_a_missing_results_folder_is_one_line(call, tmp_path):
    status, _, err = call(plots.run, "--results", tmp_path / "none")
    assert (status, err.count("\n")) == (2, 1)


def test_curves_show_the_stage_that_all_arms_have():
    stages = [("a", "fit"), ("b", "pretrain"), ("b", "fit")]
    epochs = pd.DataFrame([{"arm": arm, "stage": stage, "epoch": e} for arm, stage in stages for e in (1, 2)])
    for arms in (["a", "b"], ["b"]):
        compared, note = curves.compared_epochs(epochs[epochs["arm"].isin(arms)])
        assert set(zip(compared["arm"], compared["stage"], strict=True)) == {(arm, "fit") for arm in arms}
        assert note == "; epochs of stage fit"
    apart = epochs.replace("fit", "first fold")
    for frame, arm, number in ((epochs, "a", 2), (apart, "b", 4)):  # one stage; two, neither of them `fit`
        compared, note = curves.compared_epochs(frame[frame["arm"] == arm])
        assert (len(compared), note) == (number, "")


def test_the_difference_of_equal_confusion_matrices_has_a_scale_of_one_percent():
    counts = 10 * np.eye(3, dtype=int)
    *_, scale = predictions.confusions({"a": counts, "b": counts}, "title", "caption").axes
    assert scale.get_ylim() == (-1, 1)


def test_the_names_of_classes_are_those_of_the_declaration(logits):
    key = schema.labels_key("c" * 64)
    store.write_declaration(logits, declared(arms={"baseline": {}}, class_names={key: ["$cat", "dog"]}))
    assert Table.read(logits).shared_class_names() == ["$cat", "dog"]
    store.write_declaration(logits, declared(arms={"baseline": {}}))  # of an earlier version
    assert Table.read(logits).shared_class_names() == []


@pytest.mark.parametrize(
    ("arms", "name"),
    [
        (("Adam, 0.1", "Adam, 0.03", "Adam, 1"), "Adam"),
        (("l2=1e-5", "l2=1e-4"), "l2"),
        (("dropout 0.2, longer", "dropout 0.3, longer"), "dropout, longer"),
        (("CE, 20 %", "CE, 40 %"), "CE"),
        (("CNN, 100 examples", "CNN, 300 examples"), "CNN examples"),
        (("focal, 1:1", "focal, 10:1", "focal, 100:1"), "focal"),
        (("10 %, equal steps", "3 %, equal steps"), "equal steps"),
        (("0.1", "0.3"), "rate"),
    ],
)
def test_a_group_is_named_by_the_common_part_of_its_arms(arms, name):
    assert sensitivity.shared_name(dict.fromkeys(arms, 1.0), "rate") == name
