import keras
import numpy as np
import pytest
import tensorflow as tf

from common import losses, metrics
from common.training.adapters import per_example

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(0, 2, (6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1])
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
LOG_P = metrics.log_softmax(LOGITS)
P = np.exp(LOG_P)
TRUE = P[np.arange(6), LABELS]
SEVERAL = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0]], np.float32)
FREQUENCIES = np.array([0.5, 0.3, 0.15, 0.05])
SHIFTED = metrics.log_softmax(LOGITS + np.log(FREQUENCIES))


# Two classes, one output z.
Z = LOGITS[:, 1]
SECOND = LABELS % 2 == 1
TWO = np.eye(2, dtype=np.float32)[SECOND.astype(int)]
WITH_ZERO = np.stack([np.zeros_like(Z), Z], axis=1)


@pytest.mark.parametrize(
    ("loss", "targets", "expected"),
    [
        (losses.softmax_squared_error, ONE_HOT, ((P - ONE_HOT) ** 2).mean(axis=1)),
        (losses.softmax_absolute_error, ONE_HOT, 2 * (1 - TRUE) / 4),
        (
            losses.rescaled_squared_error(2.0, 3.0),
            ONE_HOT,
            ((LOGITS - 3) ** 2 * 2 * ONE_HOT + LOGITS**2 * (1 - ONE_HOT)).mean(axis=1),
        ),
        (losses.generalized_cross_entropy(0.7), ONE_HOT, (1 - TRUE**0.7) / 0.7),
        (losses.generalized_cross_entropy(1e-3), ONE_HOT, (1 - TRUE**1e-3) / 1e-3),
        (losses.symmetric_cross_entropy(0.1, 1.0, -4.0), ONE_HOT, -0.1 * np.log(TRUE) + 4 * (1 - TRUE)),
        (losses.logit_adjusted(FREQUENCIES), ONE_HOT, -SHIFTED[np.arange(6), LABELS]),
        (losses.negative_entropy, ONE_HOT, (P * LOG_P).sum(axis=1)),
        (losses.shared_softmax, SEVERAL, -(SEVERAL * LOG_P).sum(axis=1) / SEVERAL.sum(axis=1)),
        (
            losses.pairwise_softmax,
            SEVERAL,
            np.log1p((np.exp(LOGITS) * (1 - SEVERAL)).sum(axis=1)) + np.log1p((np.exp(-LOGITS) * SEVERAL).sum(axis=1)),
        ),
        (
            losses.combined((1.0, keras.losses.CategoricalCrossentropy(from_logits=True)), (0.3, losses.softmax_squared_error)),
            ONE_HOT,
            -np.log(TRUE) + 0.3 * ((P - ONE_HOT) ** 2).mean(axis=1),
        ),
        (losses.log_loss, TWO, np.where(SECOND, np.log1p(np.exp(-Z)), np.log1p(np.exp(Z)))),
        # Used by experiment 23: (1 − p)^γ · cross-entropy, times a constant.
        (
            keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True),
            ONE_HOT,
            -((1 - TRUE) ** 2) * np.log(TRUE),
        ),
    ],
)
def test_losses_equal_their_formulas(loss, targets, expected):
    logits = WITH_ZERO if targets is TWO else LOGITS
    assert per_example(loss)(tf.constant(targets), tf.constant(logits)).numpy() == pytest.approx(expected, rel=2e-3)


def test_log_loss_of_one_output_is_cross_entropy_of_zero_and_that_output():
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert losses.log_loss(TWO, WITH_ZERO).numpy() == pytest.approx(cross_entropy.call(TWO, WITH_ZERO).numpy(), rel=1e-5)


def test_generalized_cross_entropy_lies_between_cross_entropy_and_mae():
    near_zero = losses.generalized_cross_entropy(1e-4)(tf.constant(ONE_HOT), tf.constant(LOGITS)).numpy()
    assert near_zero == pytest.approx(-np.log(TRUE), rel=1e-2, abs=1e-2)
    assert losses.generalized_cross_entropy(1.0)(tf.constant(ONE_HOT), tf.constant(LOGITS)).numpy() == pytest.approx(
        1 - TRUE, rel=1e-5
    )


def test_robust_losses_are_bounded_where_cross_entropy_is_not():
    wrong = tf.constant([[50.0, 0, 0, 0]])
    target = tf.constant([[0.0, 1, 0, 0]])
    assert losses.generalized_cross_entropy(0.7)(target, wrong).numpy()[0] == pytest.approx(1 / 0.7, rel=1e-5)
    assert losses.softmax_absolute_error(target, wrong).numpy()[0] == pytest.approx(0.5)
    for loss in (losses.generalized_cross_entropy(0.7), losses.symmetric_cross_entropy(), losses.pairwise_softmax):
        with tf.GradientTape() as tape:
            tape.watch(wrong)
            total = loss(target, wrong)
        assert np.isfinite(tape.gradient(total, wrong).numpy()).all()


def test_class_balanced_weights_by_hand():
    # β = 0.5: effective numbers (1 − 0.5^n) / 0.5 = 1, 1.5, 1.75 for n = 1, 2, 3.
    weights = losses.class_balanced_weights([1, 2, 3], 0.5)
    assert weights / weights[0] == pytest.approx([1, 1 / 1.5, 1 / 1.75])
    assert weights.mean() == pytest.approx(1)
    assert losses.class_balanced_weights([1, 100], 0.0).tolist() == [1, 1]
    near_one = losses.class_balanced_weights([1, 100], 0.999999)
    assert near_one[0] / near_one[1] == pytest.approx(100, rel=1e-3)


def test_centre_loss_is_half_the_squared_distance():
    features, centres = tf.constant([[1.0, 2], [3, 4]]), tf.constant([[1.0, 0], [0, 4], [9, 9]])
    targets = tf.constant([[1.0, 0, 0], [0, 1, 0]])
    assert losses.centre_loss(targets, features, centres).numpy().tolist() == [2.0, 4.5]


def test_the_gradient_of_cross_entropy_is_large_where_the_model_is_wrong_and_that_of_mse_is_not():
    confident = tf.constant([[12.0, 0.0, 0.0], [0.0, 12.0, 0.0]])  # correct, and equally confident but wrong
    targets = tf.constant([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    norms = {}
    for name, loss in (
        ("CE", keras.losses.CategoricalCrossentropy(from_logits=True).call),
        ("MSE", losses.softmax_squared_error),
    ):
        with tf.GradientTape() as tape:
            tape.watch(confident)
            values = loss(targets, confident)
        norms[name] = np.linalg.norm(tape.gradient(values, confident), axis=1)
    assert norms["CE"][0] < 1e-4
    assert norms["CE"][1] == pytest.approx(np.sqrt(2), rel=1e-3)  # p − y
    assert norms["MSE"].max() < 1e-4  # p (1 − p) vanishes if the model is confident, right or wrong
