"""Measures the precision, compiler and batch size that a training actually used, to check the arms of speed comparisons."""

import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

XLA_TRACE = b"hlo_module"
"""Bytes that a profiler trace contains only if an operation was compiled by XLA."""


class Watch(keras.callbacks.Callback):
    """Callback that profiles the first update, whose time counts as compilation, to detect XLA.

    Attributes:
        xla: whether the update was compiled by XLA; False before the first update.
    """

    def __init__(self):
        super().__init__()
        self.xla = False
        self.traced = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self.traced:
            options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
            self._folder = tempfile.mkdtemp()
            tf.profiler.experimental.start(self._folder, options)

    def on_train_batch_end(self, batch, logs=None):
        if not self.traced:
            tf.profiler.experimental.stop()
            traces = pathlib.Path(self._folder).rglob("*.xplane.pb")
            self.xla = any(XLA_TRACE in trace.read_bytes() for trace in traces)
            shutil.rmtree(self._folder)
            self.traced = True


def compute_bits(model: keras.Model) -> int:
    """Bits per number in the outputs of a model's layers with weights (the median): 16 under mixed precision."""
    bits = [tf.as_dtype(layer.output.dtype).size * 8 for layer in model.layers if layer.weights]
    return int(np.median(bits))


def record(trial, model: keras.Model, watch: Watch, stage: str = "fit") -> None:
    """Record precision, compiler and batch size of a stage as measures of the trial.

    Args:
        watch: a callback of that stage.
    """
    fit = trial.fits[stage]
    trial.record("bits of a layer's output", compute_bits(model))
    trial.record("bits of a weight", tf.as_dtype(model.trainable_variables[0].dtype).size * 8)
    trial.record("compiled by XLA", watch.xla)
    trial.record("examples per update", len(trial.train) * fit.epoch / fit.steps)
