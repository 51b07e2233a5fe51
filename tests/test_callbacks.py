"""Callbacks whose arguments follow the setting."""

import types

import pytest

from common.callbacks import early_stopping


@pytest.mark.parametrize(("share", "epochs", "patience"), [(0.12, 40, 5), (0.08, 18, 1), (0.01, 10, 1)])
def test_the_patience_is_a_share_of_the_epochs_and_at_least_one(share, epochs, patience):
    trial = types.SimpleNamespace(epochs=epochs)
    stopping = early_stopping(trial, share, restore=False)
    assert (stopping.monitor, stopping.patience, stopping.restore_best_weights) == ("val_loss", patience, False)
    assert early_stopping(trial, share).restore_best_weights
