"""Checks of the callbacks that `Trial.fit` gets."""

from collections.abc import Sequence

import keras

from common.errors import Misuse
from common.text import did_you_mean
from common.training import adapters
from common.training.arguments import shown

NEVER_CALLED = (
    *("on_test_batch_begin", "on_test_batch_end", "on_predict_begin", "on_predict_end"),
    *("on_predict_batch_begin", "on_predict_batch_end"),
)
"""Methods of callbacks that Keras' `evaluate` and `predict` call, but `Trial.fit` does not."""
MODEL_FILES = (keras.callbacks.BackupAndRestore, keras.callbacks.ModelCheckpoint, keras.callbacks.OrbaxCheckpoint)
"""Callbacks that write models to files, or read them."""


def check_callbacks(callbacks: Sequence, optimizers: Sequence[keras.optimizers.Optimizer]) -> None:
    """Raise `Misuse` for a value that is not a list of Keras callbacks, or for callbacks that would have no effect.

    Args:
        optimizers: of the stage; callbacks see the first one.
    """
    if not isinstance(callbacks, list | tuple):
        raise Misuse(f"callbacks must be a list: callbacks=[EarlyStopping()]. Received: {shown(callbacks)}")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise Misuse(
                "a callback must be an instance of keras.callbacks.Callback: wrap a function in "
                f"LambdaCallback(on_epoch_end=function). Received: {shown(callback)}"
            )
        name = type(callback).__name__
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            raise Misuse(
                "with use_ema=True epochs are validated with the averages, which become the weights at the end: leave "
                f"SwapEMAWeights out. Received: {name}"
            )
        if isinstance(callback, MODEL_FILES):
            raise Misuse(
                "trials resume by themselves, and files of models would be shared by trials: leave it out; "
                f"EarlyStopping(restore_best_weights=True) returns the best epoch, and KEEP=1 keeps models. Received: {name}"
            )
        ignored = [one for one in NEVER_CALLED if not (getattr(callback, one).__module__ or "").startswith("keras.")]
        if ignored:
            raise Misuse(
                "images are validated at once, and predicted outside of trial.fit: move what these methods do to on_test_begin, "
                f"on_test_end or on_epoch_end. Received: {', '.join(ignored)} of {name}"
            )
        rates = keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
        schedule = adapters.scheduled_rate(optimizers[0]) is not None
        if schedule and isinstance(callback, rates):
            raise Misuse(
                "a callback cannot change a learning rate that follows a schedule, as those of sgd and falling do: give the "
                f"optimizer a number, or leave the callback out. Received: {name} and a schedule"
            )
        if len(optimizers) > 1 and isinstance(callback, rates):
            raise Misuse(
                "a callback can change the learning rate of only one optimizer of several: give each a "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {name} and {len(optimizers)} optimizers"
            )


def check_monitors(callbacks: Sequence[keras.callbacks.Callback], measured: Sequence[str]) -> None:
    """Raise `Misuse` for a callback whose `monitor` is not a metric of an epoch.

    Args:
        measured: names of the metrics.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in measured:
            raise Misuse(
                f"{type(callback).__name__} must monitor one of {', '.join(measured)}. "
                f"Received: monitor={monitor!r}{did_you_mean(monitor, measured)}"
            )
