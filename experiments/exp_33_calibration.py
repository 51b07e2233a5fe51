"""Exp 33: what calibrates the confidence of a network?

Varies   temperature scaling of a trained network, fitted on val; or training with label smoothing, or with mixup.
Fixed    architecture, SGD with momentum, epochs; the learning rate is searched for each arm.
Expect   temperature scaling lowers NLL and ECE at exactly the same accuracy (Guo et al. 2017); label smoothing (Müller et al.
         2019) and mixup (Thulasidasan et al. 2019) lower ECE as well and cost no accuracy.
"""

from keras import losses

from common.augment import mixup
from common.calibration import Tempered
from common.claims import each, less, same
from common.experiment import Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.text import to_id

ARMS = {
    "baseline": {},
    "temperature": {"temperature": True},
    "label smoothing": {"smoothing": 0.1},
    "mixup": {"alpha": 0.2},
}


def lowers_ece(arm):
    """The claim that an arm has a lower expected calibration error than the baseline."""
    return less(f"{arm} lowers ECE", arm, "baseline", "test_ece", 0.005, id=to_id(f"{arm} ECE"))


def train(trial, *, learning_rate, temperature=False, smoothing=0.0, alpha=0.0):
    """Fit the network, then the temperature of its logits where the arm says so."""
    model = trial.fit(
        small_cnn(trial),
        optimizer=sgd(trial, learning_rate),
        loss=losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
        augment=[mixup(alpha)] if alpha else [],
    )
    if not temperature:
        return model
    predictor = Tempered(trial, model)
    trial.record("temperature", predictor.temperature)
    return predictor


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 0.3, default=0.01)},
    setting=Setting("cifar10", epochs=30, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    about=("test_ece", "test_accuracy"),
    claims=[
        *map(lowers_ece, ("temperature", "label smoothing", "mixup")),
        less("temperature scaling lowers NLL", "temperature", "baseline", "test_nll", 0.01, id="temperature-nll"),
        same("temperature scaling leaves accuracy the same", "temperature", "baseline", id="temperature-same"),
        *each(("label smoothing", "mixup"), "{} costs no accuracy", "{}", "baseline", 0.02, id="{} accuracy", kind="not worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
