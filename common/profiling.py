"""What a training really ran with, so that a comparison of speeds compares what its arms say."""

import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

XLA_TRACE = b"hlo_module"
"""What an operation compiled by XLA carries in a trace, and no other."""


class Watch(keras.callbacks.Callback):
    """Traces the first update, which counts as compilation, for what compiled it.

    Attributes:
        xla: whether XLA did, once an update has been made.
    """

    def __init__(self):
        super().__init__()
        self.xla = False
        self.seen = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self.seen:
            options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
            self._folder = tempfile.mkdtemp()
            tf.profiler.experimental.start(self._folder, options)

    def on_train_batch_end(self, batch, logs=None):
        if not self.seen:
            tf.profiler.experimental.stop()
            traces = pathlib.Path(self._folder).rglob("*.xplane.pb")
            self.xla = any(XLA_TRACE in trace.read_bytes() for trace in traces)
            shutil.rmtree(self._folder)
            self.seen = True


def compute_bits(model: keras.Model) -> int:
    """Bits of the numbers that most layers with weights put out, between the layers of a mixed-precision model."""
    bits = [tf.as_dtype(layer.output.dtype).size * 8 for layer in model.layers if layer.weights]
    return int(np.median(bits))


def record(trial, model: keras.Model, watch: Watch, stage: str = "fit") -> None:
    """Keep as measures what a fit of a trial really ran with."""
    fit = trial.fits[stage]
    trial.record("bits of a layer's output", compute_bits(model))
    trial.record("bits of a weight", tf.as_dtype(model.trainable_variables[0].dtype).size * 8)
    trial.record("compiled by XLA", watch.xla)
    trial.record("examples per update", len(trial.train) * fit.epoch / fit.steps)
