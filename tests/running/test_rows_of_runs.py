"""Runs write a row for each trial: of arms that fail, set fields of the setting or return any predictor, and of smoke runs."""

import csv
import re
import shutil

import numpy as np
import pytest
from processes import run_here
from survival import SCRIPT, files_in, write

from common import machine, tasks
from common.data.dataset import load
from common.data.streams import Streams
from common.files import read_arrays
from common.rows import schema, store
from common.rows.table import Table

TROUBLE = '''"""Exp 90: which rows do failing trials get?

Varies   how a trial fails.
Fixed    all else.
Expect   a row for each.
"""
import os
import signal

from keras import optimizers

from common.errors import Misuse
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {"how": ""},
    "diverges": {"how": "rate"},
    "raises": {"how": "raise"},
    "dies": {"how": "die"},
    "deep": {"how": "deep"},
}


def train(trial, *, how):
    """Fail in the way of the argument."""
    if how == "raise":
        raise ZeroDivisionError("on purpose\\nand more")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    model = small_cnn(trial, widths=(4,) * 6 if how == "deep" else (4, 8))
    return trial.fit(model, optimizer=optimizers.SGD(1e30 if how == "rate" else 0.1))


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=2, batch_size=16, train_size=64), seeds=1)
'''


def test_failing_trials_get_rows_and_the_others_continue(tmp_path):
    script = write(tmp_path, TROUBLE)
    done = run_here(script, ["--results", tmp_path / "out", "--jobs", "1"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "3 of 5 trials failed" in done.stderr
    rows = {row["arm"]: row for row in store.read_rows(files_in(tmp_path / "out"))}
    assert {arm: row["status"] for arm, row in rows.items()} == {
        "baseline": "done",
        "diverges": "diverged",
        "raises": "failed",
        "dies": "failed",
        "deep": "failed",
    }
    assert rows["raises"]["reason"].startswith("ZeroDivisionError: on purpose and more (exp_90_survive.py:")
    assert rows["dies"]["reason"] == "its worker died 2 times (signal SIGKILL)"
    assert "too deep for these images" in rows["deep"]["reason"]
    diverged = rows["diverges"]
    assert re.fullmatch(r"the (loss is|weights are) not finite at epoch 1, step \d", diverged["reason"])
    assert 0.05 < float(diverged["test_accuracy"]) < 0.15  # a constant prediction
    assert diverged["train_accuracy"] == ""
    assert (diverged["trained"], diverged["val_constant"]) == ("False", diverged["val_accuracy"])
    assert rows["baseline"]["trained"] in ("True", "False")
    log = files_in(tmp_path / "out").local("logs", "raises", 0, ".log").read_text()
    assert "ZeroDivisionError: on purpose" in log

    script.write_text(script.read_text().replace('raise ZeroDivisionError("on purpose\\nand more")', "pass"))
    done = run_here(script, ["--results", tmp_path / "out", "--jobs", "1", "--arms", "raises"])
    assert done.returncode == 0
    assert "5 rows of earlier code, settings, data or searches moved to" in done.stdout
    assert (tmp_path / "out" / "quick-digits" / "superseded" / "exp_90_survive.1.csv").exists()


SETTINGS = '''"""Exp 90: what do the fields of a setting change?

Varies   the field.
Fixed    all else.
Expect   rows that differ in that field.
"""
from keras import optimizers

from common.errors import Unavailable
from common.claims import less
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {},
    "noisy": {"label_noise": 0.5},
    "shifted": {"shifted": True},
    "other seeds": {"seed_offset": 1},
    "two classes": {"classes": [3, 8], "train_size": 40},
    "elsewhere": {"here": False},
    "free": {"deterministic": False},
}


def train(trial, *, here=True):
    """Train, unless the arm is unavailable."""
    if not here:
        raise Unavailable("its weights are not here: copy them")
    return trial.fit(small_cnn(trial, widths=(4,)), optimizer=optimizers.SGD(0.1))


experiment = Experiment(
    train,
    arms=ARMS,
    setting=Setting("digits", epochs=2, batch_size=16, train_size=64),
    seeds=2,
    alone=True,
    claims=[less("correct labels lower ECE", "baseline", "noisy", "test_ece", 0.005, id="ece")],
)
'''


def test_fields_of_a_setting_reach_the_trial(tmp_path):
    script, options = write(tmp_path, SETTINGS), ["--results", tmp_path / "out"]
    done = run_here(script, [*options, "--seeds", "1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "with 1 at a time" in done.stdout  # because of alone=True
    assert run_here(script, [*options, "--arms", "baseline", "--seeds", "2"]).returncode == 0
    files = files_in(tmp_path / "out")
    rows = {(row["arm"], row["seed"]): row for row in store.read_rows(files)}
    measured = {(m["arm"], m["name"]) for m in store.read_measures(files).to_dict("records")}
    assert {name for arm, name in measured if arm == "noisy"} == {"memorised"}
    shifts = {name for arm, name in measured if arm == "shifted"}
    assert {"shifted_accuracy", "blur_accuracy", "blur_accuracy 3"} <= shifts
    assert len(shifts) == 6 * 4 + 1
    table = Table.read(files)
    for name in ("test_nll", "shifted_accuracy", "blur_accuracy"):
        metric = table.metric(name)
        assert metric.by_image(table, "shifted", 0).mean() == pytest.approx(metric.value(table, "shifted", 0, None), abs=1e-3)
    ece = table.metric("test_ece")
    (once,) = ece.weighted(table, "noisy", 0, lambda m: np.ones((m, 1)))
    assert once == pytest.approx(ece.value(table, "noisy", 0, None), abs=1e-3)
    # With a seed offset of 1, seed 0 equals the baseline's seed 1.
    assert rows["other seeds", "0"]["weights"] == rows["baseline", "1"]["weights"]
    assert rows["shifted", "0"]["weights"] == rows["baseline", "0"]["weights"]
    assert rows["noisy", "0"]["weights"] != rows["baseline", "0"]["weights"]
    pair = rows["two classes", "0"]
    there = tasks.test(load("digits"), (3, 8), tasks.classification)
    assert (pair["train_size"], pair["test_size"]) == ("40", str(len(there)))
    assert (rows["free", "0"]["deterministic"], rows["baseline", "0"]["deterministic"]) == ("False", "True")
    elsewhere = rows["elsewhere", "0"]
    assert (elsewhere["status"], elsewhere["reason"]) == ("unavailable", "its weights are not here: copy them")
    assert elsewhere["test_accuracy"] == ""


SECRETS = '''"""Exp 90: does a trial refer to test images?

Varies   nothing.
Fixed    all.
Expect   no test images.
"""
import gc

import numpy as np

from common.data.dataset import Dataset, load
from common.experiment import Experiment, Setting


class Constant:
    """Predicts class 3."""

    def predict(self, images):
        return np.tile(np.eye(10)[3], (len(images), 1))


def train(trial):
    """Count test images among all objects that the trial refers to."""
    tests = load("digits").test().images
    known = {image.tobytes() for image in tests}
    seen, test_images, arrays, datasets = set(), 0, 0, 0
    stack = [trial]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, type(gc) | type) or thing is tests:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray) and thing.ndim == 4:
            arrays += 1
            test_images += sum(image.tobytes() in known for image in thing)
        datasets += isinstance(thing, Dataset)
        if type(thing).__module__.startswith(("common", "builtins", "numpy", "pathlib")):
            stack += gc.get_referents(thing)
    trial.record("datasets", datasets)
    trial.record("arrays", arrays)
    trial.record("test_images", test_images)
    trial.record("known", len(known))
    return Constant()


experiment = Experiment(train, arms={"baseline": {}}, setting=Setting("digits", epochs=1), seeds=1)
'''


def test_train_gets_no_test_images_and_may_return_any_predictor(tmp_path):
    done = run_here(write(tmp_path, SECRETS), ["--results", tmp_path / "out"])
    assert done.returncode == 0, done.stdout + done.stderr
    files = files_in(tmp_path / "out")
    measures = {row["name"]: float(row["value"]) for row in csv.DictReader(files.measures.open())}
    assert measures["arrays"] >= 1
    assert measures["known"] > 300
    assert measures["test_images"] == measures["datasets"] == 0
    (row,) = store.read_rows(files)
    assert set(read_arrays(files.predictions)["baseline/0"]) == {3}
    assert float(row["test_accuracy"]) == pytest.approx(0.1, abs=0.02)
    assert row["best_epoch"] == row["weights"] == ""


def test_smoke_and_keep(tmp_path):
    import keras

    script = write(tmp_path, SCRIPT.replace("train_size=200", "train_size=300"))
    done = run_here(script, ["--results", tmp_path / "out", "--smoke", "--keep", "--arms", "baseline"])
    assert done.returncode == 0, done.stderr
    files = schema.Files(tmp_path / "out" / "quick-digits-smoke", "exp_90_survive")
    (row,) = store.read_rows(files)
    assert (row["epochs"], row["train_size"]) == ("1", "256")
    model = keras.models.load_model(files.local("models", "baseline", 0, ".keras"))
    assert model.count_params() == int(row["parameters"])
    # The saved model is that which was scored: with batch-norm statistics of the whole train split, not moving averages.
    dataset = load("digits")
    logits = model.predict(dataset.test().images.astype("float32"), verbose=0)
    assert np.allclose(logits, np.load(files.local("logits", "baseline", 0, ".npy")), atol=1e-4)
    train, _, _ = tasks.examples(dataset, tasks.classification, Streams(0), train_size=int(row["train_size"]))
    inner = keras.Model(model.inputs, model.get_layer("conv1_1").output)
    values = inner.predict(train.images.astype("float32"), verbose=0)
    assert np.allclose(model.get_layer("norm1_1").moving_variance, values.var((0, 1, 2)), rtol=1e-3)


KEEPS = '''"""Exp 90: which finished trials does KEEP=1 train again?

Varies   whether the predictor is a Keras model.
Fixed    all else.
Expect   those whose predictor is one.
"""
from keras import optimizers

from common.calibration import Tempered
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {"baseline": {"tempered": False}, "tempered": {"tempered": True}}


def train(trial, *, tempered):
    """One arm."""
    model = trial.fit(small_cnn(trial, widths=(4,)), optimizer=optimizers.SGD(0.1))
    return Tempered(trial, model) if tempered else model


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=1, batch_size=16, train_size=200), seeds=1)
'''


@pytest.fixture(scope="module")
def without_models(tmp_path_factory):
    """A script, and the results of a run of its two arms that has saved no models."""
    folder = tmp_path_factory.mktemp("without_models")
    done = run_here(write(folder, KEEPS), ["--results", folder / "out", "--jobs", "1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert trained(done) == [("2", "baseline"), ("2", "tempered")]
    return folder / "exp_90_survive.py", folder / "out"


def trained(done):
    """Total and arm of each trained trial, from the output of a run."""
    return re.findall(r"^\[\d+/(\d+)\] (.*?) seed", done.stdout, re.MULTILINE)


def test_keep_trains_finished_trials_again_if_they_have_a_keras_model(without_models, tmp_path):
    script, results = without_models
    shutil.copytree(results, tmp_path / "out")
    for expected in ([("1", "baseline")], []):
        done = run_here(script, ["--results", tmp_path / "out", "--jobs", "1", "--keep"])
        assert done.returncode == 0, done.stderr
        assert trained(done) == expected
    assert [path.name for path in (tmp_path / "out").rglob("*.keras")] == ["baseline-0.keras"]


def test_models_of_trials_from_another_kind_of_processor_are_not_saved(without_models, tmp_path, monkeypatch):
    script, results = without_models
    shutil.copytree(results, tmp_path / "out")
    before = store.read_rows(files_in(results))
    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    done = run_here(script, ["--results", tmp_path / "out", "--keep"])
    assert done.returncode == 0, done.stderr
    message = f"1 models are not saved: their trials ran on another kind of processor than {machine.kind()}"
    assert message in done.stdout.splitlines()
    assert store.read_rows(files_in(tmp_path / "out")) == before
    assert not list((tmp_path / "out").rglob("*.keras"))
