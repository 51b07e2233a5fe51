"""Exp 26: does adding a second loss improve on cross-entropy alone?

Varies   the loss added to cross-entropy, and its strength: the ratio of the two losses before training (of centre loss, which is
         almost 0 then, its weight). The learning rate is searched for each arm.
Fixed    architecture with one hidden layer of 32 units, SGD with momentum, epochs.
Expect   little: MSE and hinge pull the same way as cross-entropy; a penalty on confidence helps calibration more than accuracy
         (Pereyra et al. 2017); centre loss draws the features of a class together, which helped face recognition (Wen et al.
         2016).
"""

from keras import losses

from common.experiment import Claim, Experiment, Setting
from common.losses import combined, negative_entropy, softmax_squared_error, starting_ratio, with_centres
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.text import to_id

STRENGTHS = {"MSE": (0.1, 1.0), "hinge": (0.1, 1.0), "confidence penalty": (0.1, 0.3), "centre": (0.01, 0.1)}
ARMS = {
    "cross-entropy": {"added": "nothing", "strength": 0.0},
    **{f"+ {strength:g} {name}": {"added": name, "strength": strength} for name, both in STRENGTHS.items() for strength in both},
}


def train(trial, *, added, strength, learning_rate):
    """Fit one network to cross-entropy plus the arm's second loss."""
    model = small_cnn(trial, dense=(32,))
    entropy = losses.CategoricalCrossentropy(from_logits=True)
    optimizer = sgd(trial, learning_rate)
    if added == "centre":
        model, step = with_centres(trial, model, "dense_activation1", strength)
        return trial.fit(model, optimizer=optimizer, step=step)
    second = {"MSE": softmax_squared_error, "hinge": losses.categorical_hinge, "confidence penalty": negative_entropy}.get(added)
    weight = strength * starting_ratio(trial, model, entropy.call, second) if second else 0.0
    loss = combined((1.0, entropy), (weight, second)) if second else entropy
    return trial.fit(model, optimizer=optimizer, loss=loss)


def helps(name):
    """The claim that cross-entropy plus a second loss, at the better of its strengths, beats cross-entropy alone."""
    text = f"adding a second loss ({name}) beats cross-entropy alone"
    arms = [f"+ {strength:g} {name}" for strength in STRENGTHS[name]]
    return Claim(text, arms, "cross-entropy", 0.015, id=to_id(f"{name} helps"))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 0.3, default=0.05)},
    sweep={
        f"+ searched {name}": {"added": name, "strength": log_range(low / 10, 10 * high)}
        for name, (low, high) in STRENGTHS.items()
    },
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="cross-entropy",
    claims=[
        Claim("adding a second loss beats cross-entropy alone", list(ARMS)[1:], "cross-entropy", 0.015, id="combining-helps"),
        *map(helps, STRENGTHS),
    ],
)

if __name__ == "__main__":
    experiment.main()
