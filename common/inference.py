"""Model compression: conversion to TFLite with its size and latency, pruning, distillation."""

import gzip
import time
import warnings
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from common.data.streams import Streams
from common.errors import Misuse
from common.training.graphs import variables_as_constants

PRECISIONS = ("float32", "float16", "int8")
CALIBRATION_IMAGES = 100
"""Random training images that int8 quantization is calibrated with."""
WARM_UP, REPEATS = 5, 40
"""Untimed and timed runs of a latency measurement."""


class Converted:
    """A predictor: a TFLite model in TFLite's interpreter, with as many threads as TensorFlow has within an operation.

    Args:
        content: the bytes of a TFLite file.
    """

    def __init__(self, content: bytes):
        self.content = content
        threads = tf.config.threading.get_intra_op_parallelism_threads() or None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tf.lite.Interpreter is deprecated in favour of another package
            self._interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 [n, classes] for images uint8 [n, height, width, channels]."""
        self._prepare(images.shape)
        return self._run(images.astype(np.float32)).copy()

    def latency(self, images: np.ndarray) -> float:
        """Median time in milliseconds of a prediction for one batch of images, after a warm-up."""
        self._prepare(images.shape)
        inputs, seconds = images.astype(np.float32), []
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            self._run(inputs)
            seconds.append(time.perf_counter() - start)
        return 1000 * float(np.median(seconds[WARM_UP:]))

    def _prepare(self, shape) -> None:
        self._interpreter.resize_tensor_input(self._input, shape)
        self._interpreter.allocate_tensors()

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, inputs)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


def convert(model: keras.Model, precision: str, images: np.ndarray) -> bytes:
    """Convert a model to TFLite. Returns the content of the file.

    Args:
        precision: "float32"; "float16" for weights in float16; "int8" for weights and activations in int8 (Jacob et al. 2018),
            calibrated with `CALIBRATION_IMAGES` of the images. Inputs and outputs are float32.
        images: uint8 [n, height, width, channels], of the train split.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)], autograph=False)
    def call(batch):
        return tf.cast(model(batch, training=False), tf.float32)

    # Variables become constants: the calibration of int8 cannot read variables.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([variables_as_constants(call)])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        order = Streams(0).generator("corrupt", "calibration").permutation(len(images))  # images may be sorted by class
        sample = images[order[:CALIBRATION_IMAGES]].astype(np.float32)
        converter.representative_dataset = lambda: ([image[None]] for image in sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return converter.convert()


def deployed(trial, model: keras.Model, precision: str = "float32") -> Converted:
    """Convert a trained model to TFLite and record its size in bytes and its latency for 1 and 64 images as measures."""
    sample = trial.train.drawn(CALIBRATION_IMAGES, trial.streams, "calibration")
    with trial.scoring_statistics(model):
        predictor = Converted(convert(model, precision, trial.train.batch(sample)))
    trial.record("size_bytes", len(predictor.content), "bytes")
    trial.record("gzip_bytes", len(gzip.compress(predictor.content, mtime=0)), "bytes")
    for n in (1, 64):
        images = trial.train.batch(np.resize(sample, n))
        trial.record(f"latency_{n}", predictor.latency(images), "ms")
    return predictor


# --- pruning ---------------------------------------------------------------------------------------------------------


class Mask(keras.constraints.Constraint):
    """Constraint that multiplies weights by a mask of 0 and 1 after each update."""

    def __init__(self, mask: np.ndarray):
        self.mask = mask

    def __call__(self, weights):
        return weights * self.mask


def prune(model: keras.Model, sparsity: float) -> None:
    """Magnitude pruning (Han et al. 2015): set the fraction `sparsity` of each kernel with the smallest magnitudes to zero.

    Further training keeps these weights at zero. Biases and the last kernel are not pruned.

    Raises:
        Misuse: the model has no other kernel than that of its last layer.
    """
    kernels = [variable for variable in model.weights if variable.name.endswith("kernel")][:-1]
    if not kernels:
        raise Misuse(f"pruning needs a kernel before the last layer's. Received: the model {model.name}")
    for kernel in kernels:
        weights = keras.ops.convert_to_numpy(kernel)
        mask = np.ones(weights.size, np.float32)
        mask[np.argsort(np.abs(weights), axis=None, kind="stable")[: round(sparsity * weights.size)]] = 0.0
        mask = mask.reshape(weights.shape)
        kernel.assign(weights * mask)
        kernel.constraint = Mask(mask)


def sparsity_of(model: keras.Model) -> float:
    """Fraction of a model's weights that are zero."""
    weights = model.get_weights()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)


# --- distillation ----------------------------------------------------------------------------------------------------


def distillation(teacher: keras.Model, *, temperature: float = 4.0, share: float = 0.9) -> Callable:
    """A `step` of `Trial.fit` that trains a student on a teacher's outputs and the labels (Hinton et al. 2015).

    share · T² · H(softmax(t / T), softmax(z / T)) + (1 − share) · H(y, softmax(z)), with the teacher's logits t, the student's
    logits z, the cross-entropy H and the temperature T. T² compensates the gradient of the first term, which scales as 1 / T².
    """

    def step(model, images, targets, seed):
        logits = tf.cast(model(images, training=True), tf.float32)
        soft = tf.nn.softmax(tf.cast(teacher(images, training=False), tf.float32) / temperature)
        return losses(soft, targets, logits), logits

    def losses(soft, targets, logits):
        soft_loss = tf.nn.softmax_cross_entropy_with_logits(soft, logits / temperature)
        hard_loss = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return share * temperature**2 * soft_loss + (1 - share) * hard_loss

    return step
