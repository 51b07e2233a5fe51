"""Exp 27: does pretraining on other images help when training images are few?

Varies   the initial weights: random (`scratch`), pretrained on the other classes of the same data, or pretrained on ImageNet;
         the pretrained ones are frozen under a new head, or fine-tuned with it.
Fixed    the five classes and their few images, Adam, the epochs of each stage. `epochs of two stages` trains from scratch for
         as long as pretraining and fine-tuning take together. Pretraining uses the learning rate of `scratch`; frozen and
         fine-tuned networks have a separate search, but not after ImageNet, as a search must not depend on a download.
Expect   pretrained ahead of scratch, and fine-tuned ahead of frozen (Yosinski et al. 2014).
"""

from keras import optimizers

from common import transfer
from common.claims import not_worse
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = log_range(1e-4, 1e-2)
ARMS = {
    "scratch": {},
    "scratch, epochs of two stages": {"epochs": 2.0},
    "frozen": {"start": "other classes", "frozen": True},
    "fine-tuned": {"start": "other classes"},
    "ImageNet, frozen": {"start": "ImageNet", "frozen": True},
    "ImageNet, fine-tuned": {"start": "ImageNet"},
}


def train(trial, *, learning_rate, tuning_rate=None, start="scratch", frozen=False):
    """Fit one network to the few images, pretrained or not."""
    if start == "ImageNet":
        model = transfer.mobile_net(trial, weights=transfer.imagenet_weights())
    else:
        model = small_cnn(trial, widths=(16, 32, 32))
    if start == "other classes":
        source = transfer.pretrained(trial, lambda shape: small_cnn(shape, widths=(16, 32, 32)), learning_rate)
        transfer.copy_weights(source, model)
    if frozen:
        transfer.freeze(model)
    return trial.fit(model, optimizer=optimizers.Adam(falling(trial, tuning_rate or learning_rate)))


OTHER, IMAGENET = ["frozen", "fine-tuned"], ["ImageNet, frozen", "ImageNet, fine-tuned"]
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=RATES, arms={arm: {"tuning_rate": RATES} for arm in OTHER}),
    setting=Setting("cifar10", epochs=20, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=250),
    small=Setting("cifar10", epochs=18, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=250),
    quick=Setting("digits", epochs=40, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=50),
    baseline="scratch",
    claims=[
        Claim("pretraining on other classes beats training from scratch", OTHER, "scratch", 0.015, id="pretraining-helps"),
        Claim(
            "pretraining on other classes beats training from scratch for twice the epochs",
            OTHER,
            "scratch, epochs of two stages",
            0.015,
            id="helps-at-twice-epochs",
        ),
        not_worse("fine-tuning is not worse than frozen features", "fine-tuned", "frozen", id="fine-tuned-not-worse"),
        Claim("pretraining on ImageNet beats training from scratch", IMAGENET, "scratch", 0.015, id="imagenet-helps"),
    ],
)

if __name__ == "__main__":
    experiment.main()
