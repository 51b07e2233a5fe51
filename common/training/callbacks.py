"""What Keras' callbacks are told, as its own `fit` would tell them."""

from collections.abc import Sequence

import keras

LOGS = {"loss": "train_loss", "accuracy": "train_accuracy", "learning_rate": "learning_rate"}
"""How `fit` calls what an epoch's row calls otherwise; validation scores have the same names in both."""


def prepared(callbacks: Sequence[keras.callbacks.Callback]) -> keras.callbacks.CallbackList:
    """A list that knows which way its metrics are better.

    Keras would read that off the model's compiled metrics, of which there are none here.
    """
    for callback in callbacks:
        if getattr(callback, "mode", None) == "auto":
            callback.mode = "max" if getattr(callback, "monitor", "").endswith(("accuracy", "f1")) else "min"
    return keras.callbacks.CallbackList(list(callbacks))


def logs(history: Sequence[dict]) -> dict[str, float]:
    """What Keras' `fit` hands over at the end of an epoch, from the epochs' rows so far."""
    if not history:
        return {}
    row = history[-1]
    names = LOGS | {name: name for name in row if name.startswith("val_")}
    return {log: row[name] for log, name in names.items() if row[name] is not None}
