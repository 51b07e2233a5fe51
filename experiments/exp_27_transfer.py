"""Exp 27: do features learned on other images help where there are few examples?

Varies   where the network starts: fresh; pretrained on the other classes of the same data; pretrained on ImageNet. What was
         pretrained stays frozen under a fresh head, or is fine-tuned with it.
Fixed    the five classes and their few examples, Adam, the epochs of each stage; fresh networks also get those of two stages.
         Pretraining takes the rate that suits a fresh network; what follows has a rate of its own, but not after ImageNet: a
         search must not depend on a download.
Expect   pretrained ahead of fresh, and fine-tuned ahead of frozen (Yosinski et al. 2014).
"""

from keras import optimizers

from common import transfer
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = log_range(1e-4, 1e-2)
ARMS = {
    "scratch": {},
    "scratch, epochs of two stages": {"budget": 2},
    "frozen": {"start": "other classes", "frozen": True},
    "fine-tuned": {"start": "other classes"},
    "ImageNet, frozen": {"start": "ImageNet", "frozen": True},
    "ImageNet, fine-tuned": {"start": "ImageNet"},
}


def train(trial, *, learning_rate, tuning_rate=None, start="scratch", frozen=False, budget=1):
    """Pretrain a network if the arm says so, and train it on the few examples."""
    if start == "ImageNet":
        model = transfer.mobile_net(trial, weights=transfer.imagenet_weights())
    else:
        model = small_cnn(trial, widths=(16, 32, 32))
    if start == "other classes":
        source = transfer.pretrained(trial, lambda shape: small_cnn(shape, widths=(16, 32, 32)), learning_rate)
        transfer.copy_weights(source, model)
    if frozen:
        transfer.freeze(model)
    epochs = budget * trial.epochs
    rate = falling(trial, tuning_rate or learning_rate, epochs=epochs)
    return trial.fit(model, optimizer=optimizers.Adam(rate), epochs=epochs)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=RATES, arms={arm: {"tuning_rate": RATES} for arm in ("frozen", "fine-tuned")}),
    setting=Setting("cifar10", epochs=20, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=250),
    quick=Setting("digits", epochs=20, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=50),
    baseline="scratch",
    claims=[
        Claim(
            "pretrained networks are more accurate",
            id="pretraining-helps",
            better=["frozen", "fine-tuned"],
            worse="scratch",
            margin=0.015,
        ),
        Claim(
            "they are so also against twice the epochs",
            id="helps-at-twice-epochs",
            better=["frozen", "fine-tuned"],
            worse="scratch, epochs of two stages",
            margin=0.015,
        ),
        Claim(
            "fine-tuning is not worse than frozen features",
            "fine-tuned",
            "frozen",
            id="fine-tuned-not-worse",
            margin=0.02,
            kind="not worse",
        ),
        Claim(
            "networks pretrained on ImageNet are more accurate",
            id="imagenet-helps",
            better=["ImageNet, frozen", "ImageNet, fine-tuned"],
            worse="scratch",
            margin=0.015,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
