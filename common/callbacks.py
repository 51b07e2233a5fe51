"""Callbacks of Keras whose arguments follow the setting."""

from keras import callbacks


def early_stopping(trial, patience: float, *, restore: bool = True) -> callbacks.EarlyStopping:
    """Stop when the validation loss has not improved for a share of the epochs (Prechelt 1998).

    Args:
        patience: share of `trial.epochs`, at least one epoch.
        restore: return to the weights of the lowest validation loss.
    """
    epochs = max(1, round(patience * trial.epochs))
    return callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=restore)
