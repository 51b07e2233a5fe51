import keras
import numpy as np
import pytest
from keras import optimizers

from common import models, profiling
from common.errors import Misuse
from common.experiment import Setting
from common.training import loop
from common.training.seeding import seeded_weights

pytestmark = pytest.mark.slow


def watched(trial, **options):
    watch = profiling.Watch()
    with seeded_weights(trial.streams):
        model = models.small_cnn(trial, widths=(4,), **options)
        trial.fit(model, optimizer=optimizers.SGD(0.01), callbacks=[watch])
    profiling.record(trial, model, watch)
    return {name: value for name, value, _ in trial.measures}


def test_xla_is_used_if_requested_and_gives_the_same_losses(make_trial, tmp_path):
    trials = {xla: make_trial(xla=xla, folder=tmp_path / str(xla)) for xla in (False, True)}
    measures = {xla: watched(trial) for xla, trial in trials.items()}  # no dropout: XLA draws other masks from the same seed
    assert [measures[xla]["compiled by XLA"] for xla in (False, True)] == [0, 1]
    plain, compiled = (trial.fits["fit"].history for trial in trials.values())
    for one, other in zip(plain, compiled, strict=True):
        for name in ("train_loss", "val_nll", "gradient_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-4)


def test_xla_trains_in_mixed_precision_too(make_trial):
    keras.config.set_dtype_policy("mixed_float16")  # with a dynamic loss scale
    try:
        measures = watched(make_trial(xla=True, epochs=1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert (measures["compiled by XLA"], measures["bits of a layer's output"]) == (1, 16)


def test_a_first_update_that_diverges_leaves_no_trace_running(make_trial, tmp_path):
    trial = make_trial(folder=tmp_path / "diverging")
    with pytest.raises(loop.Diverged), seeded_weights(trial.streams):
        model = models.small_cnn(trial, widths=(4,))
        model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
        trial.fit(model, optimizer=optimizers.SGD(0.01), callbacks=[profiling.Watch()])
    assert watched(make_trial(epochs=1))["compiled by XLA"] == 0  # another trace can start


def test_xla_with_determinism_is_refused():
    with pytest.raises(Misuse, match="xla needs deterministic=False"):
        Setting("digits", epochs=1, xla=True)
    assert Setting("digits", epochs=1, xla=True, deterministic=False).xla


@pytest.mark.parametrize(("precision", "bits"), [("float32", 32), ("mixed_bfloat16", 16), ("mixed_float16", 16)])
def test_bits_of_outputs_and_weights_are_measured(make_trial, precision, bits):
    keras.config.set_dtype_policy(precision)
    try:
        measures = watched(make_trial(epochs=1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert (measures["bits of a layer's output"], measures["bits of a weight"]) == (bits, 32)


@pytest.mark.parametrize(("batch_size", "mean"), [(16, 16), (64, 64), (48, 32)])
def test_examples_per_update_are_measured(make_trial, batch_size, mean):
    measures = watched(make_trial(epochs=2, batch_size=batch_size))  # 64 examples
    assert measures["examples per update"] == mean


def test_a_loaded_stage_keeps_the_result_of_its_watch(make_trial):
    first = watched(make_trial(xla=True, epochs=1))
    again = watched(make_trial(xla=True, epochs=1))  # the finished stage of the same folder
    assert np.isclose(first["compiled by XLA"], again["compiled by XLA"])
