"""Errors in `train`: the row names the error, the line of the script and the log of the trial."""

import re

import pytest
from processes import run_here
from survival import files_in, write

from common.rows import store

SCRIPT = '''"""Exp 90: which reasons do failed trials get?

Varies   the error.
Fixed    all else.
Expect   a line for each.
"""
import sys

import keras
import tensorflow as tf
from keras import callbacks, layers, optimizers

from common.experiment import Experiment, Setting
from common.models import small_cnn

WHAT = WHICH
ARMS = {"baseline": {"what": "nothing"}} | {what: {"what": what} for what in WHAT}


class Broken(layers.Layer):
    """Multiplies matrices of incompatible shapes."""

    def call(self, inputs):
        return inputs @ tf.ones((3, 3))  # in a layer


class Shouts(callbacks.Callback):
    """Prints after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        print(f"epoch {epoch} has ended")


def in_graph(targets, logits):
    """Fails when the graph is built, with a message of several lines."""
    if logits.shape[-1] == 10:
        raise ValueError("the loss is wrong\\nin its second line")  # in a graph
    return logits


def while_running(targets, logits):
    """Fails when the graph is run."""
    return tf.reduce_sum(logits * tf.ones((tf.shape(logits)[0] + 1, 10)), -1)


def train(trial, *, what):
    """Fail in the way of the argument."""
    images = keras.Input(trial.input_shape)
    model = small_cnn(trial, widths=(4,))
    options = {"optimizer": optimizers.SGD(0.1)}
    if what == "nothing":
        return trial.fit(model, **options)
    if what == "prints":
        print("output of train")
        return trial.fit(model, **options, callbacks=[trial.unsaved(Shouts())])
    if what == "in graph":
        return trial.fit(model, **options, loss=in_graph)
    if what == "while running":
        return trial.fit(model, **options, loss=while_running)
    if what == "in layer":
        return trial.fit(keras.Model(images, Broken()(images)), **options)
    if what == "subclass":
        return trial.fit(type("Net", (keras.Model,), {})(), **options)
    if what == "tape":
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(trial.train.images[:8].astype("float32")) ** 2)
        options["optimizer"].apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return model
    if what == "tape by hand":
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(trial.train.images[:8].astype("float32")) ** 2)
        for variable, gradient in zip(model.variables, tape.gradient(loss, [v.value for v in model.variables])):
            variable.assign_sub(0.01 * gradient)
        return model
    if what == "model.fit":
        model.compile(options["optimizer"], keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(trial.train.images.astype("float32"), trial.train.labels, verbose=0)
        return model
    if what == "other model":
        trial.fit(model, **options)
        return small_cnn(trial, widths=(8,))
    if what == "embedding":
        wide = keras.Model(images, layers.Dense(12)(layers.Flatten()(images)))
        return trial.fit(wide, **options, loss=lambda targets, outputs: outputs[:, 0])
    if what == "breakpoint":
        breakpoint()
    if what == "pdb":
        import pdb
        pdb.set_trace()
    if what == "input":
        input("which? ")
    if what == "exit":
        sys.exit("enough")
    if what == "unprintable":
        class Odd(Exception):
            def __str__(self):
                raise ValueError
        raise Odd
    return None


experiment = Experiment(
    train, arms=ARMS, setting=Setting("digits", epochs=1, batch_size=16, train_size=32), seeds=1
)
'''

REASONS = {
    "in graph": ("which fails there with ValueError: the loss is wrong in its second line (", "loss=in_graph)"),
    "while running": (
        "which fails there with InvalidArgumentError: .*Incompatible shapes: [32,10] vs. [33,10]",
        "loss=while_running)",
    ),
    "in layer": (
        "ValueError: Dimensions must be equal, but are 1 and 3 for matmul with input shapes: [?,28,28,1], [3,3]. (",
        "# in a layer",
    ),
    "subclass": ("NotImplementedError: Model Net does not have a `call()` method implemented.", "fit(type("),
    "tape": ("an optimizer is applied by trial.fit alone; .* trial.fit(model, step=…)", "].apply("),
    "tape by hand": ("a model that trial.fit has trained; .* trial.fit(model, step=…). Received: Functional 'small_cnn'", ""),
    "model.fit": ("a model is trained by trial.fit alone; .* Received: fit of Functional 'small_cnn'", "model.fit("),
    "other model": (
        "loaded or set (set_weights). Received: Functional 'small_cnn', whose conv1_1/kernel has its random initial values",
        "",
    ),
    "embedding": ("output shape must be (None, 10): use Dense(10). Received: (None, 12) (", "trial.fit(wide"),
    "breakpoint": ("need a terminal, .* make exp-NN DEBUG=1", "breakpoint()"),
    "pdb": ("need a terminal, .* make exp-NN DEBUG=1", 'if what == "input"'),
    "input": ("need a terminal, .* make exp-NN DEBUG=1", 'input("'),
    "exit": ("SystemExit: enough", 'sys.exit("'),
    "unprintable": ("Odd: its message cannot be shown", "raise Odd"),
    "returns nothing": ("train must return the trained model, .* Received: None", ""),
}
"""Arm -> a part of the reason, with `.*` for any text, and a part of the line of the script that it names."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A run with an arm for each error: (lines of the script, arm -> row, files, the finished process)."""
    folder = tmp_path_factory.mktemp("wrong")
    script = write(folder, SCRIPT.replace("WHICH", repr(["prints", *REASONS])))
    done = run_here(script, ["--results", folder / "out", "--jobs", "1"])
    rows = {row["arm"]: row for row in store.read_rows(files_in(folder / "out"))}
    return script.read_text().splitlines(), rows, files_in(folder / "out"), done


@pytest.mark.parametrize("arm", REASONS)
def test_the_reason_names_the_error_and_the_line(outcome, arm):
    lines, rows, files, done = outcome
    message, line = REASONS[arm]
    row = rows[arm]
    assert row["status"] == "failed"
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), row["reason"]), row["reason"]
    place = re.search(r"\(exp_90_survive\.py:(\d+)\)", row["reason"])
    assert line in lines[int(place[1]) - 1] if line else place is None, row["reason"]
    log = files.local("logs", arm, 0, ".log")
    assert row["reason"].endswith(f"; log: {log}")
    assert f" {arm} seed 0: failed: {row['reason']}\n" in done.stdout
    assert log.read_text().count("Traceback (most recent call last)") >= 1


def test_a_log_holds_the_output_of_one_trial(outcome):
    _, rows, files, done = outcome
    assert rows["prints"]["status"] == rows["baseline"]["status"] == "done"
    assert files.local("logs", "prints", 0, ".log").read_text() == "output of train\nepoch 0 has ended\n"
    assert not files.local("logs", "baseline", 0, ".log").exists()  # it printed nothing
    assert "output of train" not in files.local("logs", "in graph", 0, ".log").read_text()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
