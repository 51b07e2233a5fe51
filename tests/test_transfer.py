import keras
import numpy as np
import pytest
from conftest import arrays_equal
from keras import optimizers

from common import models, tasks, transfer
from common.data.streams import Streams
from common.errors import Unavailable
from common.training.seeding import seeded_weights


@pytest.fixture
def trial(make_trial, digits):
    """Twenty examples of the digits 5 to 9, with the digits 0 to 4 for pretraining."""
    trial = make_trial(epochs=1, classes=5)
    fields = {"train_size": 20, "classes": (5, 6, 7, 8, 9)}
    trial.train, trial.val, trial.others = tasks.examples(digits, tasks.classification, Streams(0), **fields)
    with seeded_weights(trial.streams):
        yield trial


def test_pretraining_uses_only_examples_of_the_other_classes(trial):
    transfer.pretrained(trial, models.small_cnn, 1e-3)
    held_out = -(-len(trial.others) // 10)
    assert trial.fits["pretrain"].steps == -(-(len(trial.others) - held_out) // 16)
    assert not set(trial.others.ids) & (set(trial.train.ids) | set(trial.val.ids))
    assert trial.others.classes == 5


def test_weights_are_copied_except_those_of_the_head(trial):
    source = transfer.pretrained(trial, models.small_cnn, 1e-2)
    model = models.small_cnn(trial)
    head = model.get_layer("logits").get_weights()
    assert not arrays_equal(model.get_layer("conv1_1").get_weights(), source.get_layer("conv1_1").get_weights())
    transfer.copy_weights(source, model)
    for name in ("conv1_1", "conv2_1"):
        assert arrays_equal(model.get_layer(name).get_weights(), source.get_layer(name).get_weights())
    assert arrays_equal(model.get_layer("logits").get_weights(), head)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_weights_do_not_change_and_others_do(trial, frozen):
    model = models.small_cnn(trial, normalization="batch")
    if frozen:
        transfer.freeze(model)
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    trial.fit(model, optimizer=optimizers.Adam(0.01))
    moved = {name for name, weights in before.items() if not arrays_equal(weights, model.get_layer(name).get_weights())}
    assert moved == ({"logits"} if frozen else set(before))


@pytest.mark.slow
def test_mobile_net_takes_small_grey_images(trial):
    model = transfer.mobile_net(trial, weights=None)
    assert model.output_shape == (None, 5)
    images = np.zeros((2, *trial.input_shape), np.float32)
    images[1] = 255
    seen = keras.Model(model.inputs, model.get_layer("rescale").output)(images).numpy()
    assert seen.shape == (2, 96, 96, 3)
    assert (seen.min(), seen.max()) == (-1.0, 1.0)
    paths = [variable.path for variable in model.trainable_variables]
    assert len(paths) > 2 and any(path.startswith("logits/") for path in paths)
    assert not any("BN" in path or "_bn" in path for path in paths)
    transfer.freeze(model)
    assert {variable.path.split("/")[0] for variable in model.trainable_variables} == {"logits"}


def test_without_a_network_the_imagenet_arm_is_unavailable_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "keras_folder", lambda: tmp_path)
    monkeypatch.setattr(transfer, "network_answers", lambda: False)
    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: pytest.fail("a download was tried"))
    with pytest.raises(Unavailable, match=r"not on this machine.*: put https://.*_no_top.h5 into "):
        transfer.imagenet_weights()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / transfer.IMAGENET_FILE).write_bytes(b"weights")
    assert transfer.imagenet_weights().endswith(transfer.IMAGENET_FILE)


def test_a_failed_download_leaves_no_file_and_gives_the_reason(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise Exception("URL fetch failure: 404")

    monkeypatch.setattr(transfer, "keras_folder", lambda: tmp_path)
    monkeypatch.setattr(transfer, "network_answers", lambda: True)
    monkeypatch.setattr(keras.utils, "get_file", fails)
    with pytest.raises(Unavailable, match=r"cannot be downloaded \(URL fetch failure: 404\)"):
        transfer.imagenet_weights()
    assert not (tmp_path / "models" / transfer.IMAGENET_FILE).exists()
