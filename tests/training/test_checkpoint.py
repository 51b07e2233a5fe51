import keras
import numpy as np
import pytest
import tensorflow as tf

from common.errors import Misuse
from common.training import checkpoint, graphs


class Counting(keras.callbacks.Callback):
    def __init__(self, field):
        super().__init__()
        self.field = field


def test_values_are_restored_exactly():
    value = {
        "floats": [0.1, float("inf"), np.float32(1 / 3), np.int64(2**60)],
        "nested": {"tuple": (1, "a", None, True)},
        "array": np.arange(6, dtype=np.int8).reshape(2, 3),
        "function": keras.ops.less,
    }
    arrays = []
    back = checkpoint.unpack(checkpoint.pack(value, arrays), arrays)
    assert back["floats"] == value["floats"]
    assert [type(v) for v in back["floats"]] == [type(v) for v in value["floats"]]
    assert back["nested"] == value["nested"]
    assert np.array_equal(back["array"], value["array"])
    assert back["function"] is keras.ops.less


@pytest.mark.parametrize(
    "field", [{1, 2}, object(), np.random.default_rng(0), tf.ones(1)], ids=["set", "object", "generator", "tensor"]
)
def test_a_callback_that_cannot_be_saved_is_named(field):
    with pytest.raises(Misuse, match="unsaved.* Received: `field` of Counting, of type") as caught:
        checkpoint.callback_state(Counting(field))
    assert "\n" not in str(caught.value)
    assert checkpoint.callback_state(checkpoint.unsaved(Counting(field))) is None


def test_functions_that_close_over_mutable_state_are_refused():
    seen = []
    assert "field" not in checkpoint.callback_state(Counting(lambda epoch: 0.1 / (1 + epoch)))
    with pytest.raises(Misuse, match="Received: `field` of Counting"):
        checkpoint.callback_state(Counting(lambda epoch: seen.append(epoch)))


class Plain(keras.callbacks.Callback):
    """Methods that refer to constants only; `super()` makes a closure."""

    names = ("loss", "accuracy")
    limit: float = 0.5

    def __init__(self):
        super().__init__()
        self.best = np.inf

    def set_model(self, model):
        super().set_model(model)

    @property
    def bound(self):
        return min(self.best, self.limit)


def keeping(kind):
    """A callback that keeps state where checkpoints do not look."""
    best, count, metric = [np.inf], 0, keras.metrics.Mean()

    class InList(Plain):
        def on_epoch_end(self, epoch, logs=None):
            best[0] = min(best[0], logs["val_loss"])

    class InFunction(Plain):
        def on_epoch_end(self, epoch, logs=None):
            return InList.on_epoch_end(self, epoch, logs) or remember(logs)

    class Assigns(Plain):
        def on_epoch_end(self, epoch, logs=None):
            def add():
                nonlocal count
                count += 1

            add()

    class InMetric(Plain):
        def on_epoch_end(self, epoch, logs=None):
            metric.update_state(logs["loss"])

    class InMethod(Plain):
        def on_epoch_end(self, epoch, logs=None):
            append(epoch)

    class InClass(Plain):
        seen = []  # noqa: RUF012

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append(epoch)

    class Inherits(InClass):
        pass

    def remember(logs):
        best.append(logs)

    append = best.append
    kinds = (InList, InFunction, Assigns, InMetric, InMethod, InClass, Inherits)
    return next(one for one in kinds if one.__name__ == kind)()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("InList", r"`best` in .*InList.on_epoch_end, of type list"),
        ("InFunction", r"`best` in .*remember, of type list"),
        ("Assigns", r"`count`, which .*Assigns.on_epoch_end assigns"),
        ("InMetric", r"`metric` in .*, whose variables this stage does not save"),
        ("InMethod", r"`append` in .*, of type list"),
        ("InClass", "`seen` of the class InClass, of type list"),
        ("Inherits", "`seen` of the class InClass, of type list"),
    ],
)
def test_a_callback_that_keeps_state_in_a_closure_or_its_class_is_refused(kind, message):
    with pytest.raises(Misuse, match=f"make it an attribute.*unsaved.* Received: {message}$") as caught:
        checkpoint.callback_state(keeping(kind))
    assert "\n" not in str(caught.value)
    assert checkpoint.callback_state(checkpoint.unsaved(keeping(kind))) is None


def test_a_callback_may_refer_to_constants_and_to_saved_variables(variable):
    def halved(rate):
        return rate / 2 if rate > 0.01 else halved(0.02)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    class Assigning(Plain):
        def on_epoch_end(self, epoch, logs=None):
            variable.assign(variable * halved(1.0))
            model.save_own_variables({})

    callback = Assigning()
    callback.variable = variable
    saved = graphs.handles([variable, *model.variables])
    assert checkpoint.callback_state(callback, saved) == {"best": np.inf}
    for part in ([variable], model.variables):
        with pytest.raises(Misuse, match="whose variables this stage does not save"):
            checkpoint.callback_state(callback, graphs.handles(part))


def test_keras_callbacks_can_be_saved():
    for callback in (
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.LearningRateScheduler(keras.optimizers.schedules.CosineDecay(0.1, 10)),
    ):
        assert isinstance(checkpoint.callback_state(callback), dict)
    assert checkpoint.callback_state(keras.callbacks.TensorBoard("logs")) is None


@pytest.fixture
def variable():
    return keras.Variable(np.arange(4.0), name="v")


def save(folder, variable, value, position):
    variable.assign(np.full(4, value))
    checkpoint.save(folder, "fit", position, {"value": value}, {"model": [variable]})


def restore(folder, variable):
    warnings = []
    return checkpoint.restore(folder, "fit", {"model": [variable]}, warnings.append), warnings


def test_the_newest_of_two_generations_is_restored(tmp_path, variable):
    for position in (1, 2, 3):
        save(tmp_path, variable, float(position), position)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit-000000002.npz", "fit-000000003.npz"]
    variable.assign(np.zeros(4))
    assert restore(tmp_path, variable) == ({"value": 3.0}, [])
    assert np.array_equal(variable.numpy(), np.full(4, 3.0))


def test_a_stage_whose_name_continues_anothers_is_not_its_checkpoint(tmp_path, variable):
    """Nor do characters of a pattern in a name match other names."""
    for stage in ("fit-1", "fit-1-finished", "fold [1]"):
        checkpoint.save(tmp_path, stage, 16, {"value": stage}, {"model": [variable]})
    assert restore(tmp_path, variable) == (None, [])
    for stage in ("fit-1", "fold [1]"):
        assert checkpoint.restore(tmp_path, stage, {"model": [variable]}, print) == {"value": stage}


@pytest.mark.parametrize("damage", ["flip", "cut", "other model"])
def test_the_previous_checkpoint_replaces_a_damaged_one(tmp_path, variable, damage):
    save(tmp_path, variable, 1.0, 1)
    save(tmp_path, variable, 2.0, 2)
    path = tmp_path / "fit-000000002.npz"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[content.index(np.full(4, 2.0, variable.dtype).tobytes())] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        checkpoint.save(tmp_path, "fit", 2, {"value": 2.0}, {"model": [keras.Variable(np.zeros(7))]})
    variable.assign(np.zeros(4))
    state, warnings = restore(tmp_path, variable)
    assert state == {"value": 1.0}
    assert np.array_equal(variable.numpy(), np.full(4, 1.0))
    assert len(warnings) == 1
    assert "fit-000000002.npz is damaged" in warnings[0]


def test_nothing_to_restore(tmp_path, variable):
    assert restore(tmp_path, variable) == (None, [])
