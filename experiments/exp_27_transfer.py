"""Exp 27: do features learned on other images help where there are few examples?

Varies   where the network starts: fresh; pretrained on the other classes of the same data; pretrained on ImageNet. What was
         pretrained stays frozen under a fresh head, or is fine-tuned with it.
Fixed    the five classes and their few examples, Adam, the epochs of each stage; fresh networks also get those of two stages.
         Each arm has a rate of its own, those on ImageNet excepted: a search must not depend on a download.
Expect   pretrained ahead of fresh, and fine-tuned ahead of frozen (Yosinski et al. 2014).
"""

from keras import optimizers

from common import transfer
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.space import log_range

ARMS = {
    "scratch": {},
    "scratch, epochs of two stages": {"budget": 2},
    "frozen": {"start": "other classes", "frozen": True},
    "fine-tuned": {"start": "other classes"},
    "ImageNet, frozen": {"start": "ImageNet", "frozen": True, "learning_rate": 1e-3},
    "ImageNet, fine-tuned": {"start": "ImageNet", "learning_rate": 1e-3},
}


def train(trial, *, learning_rate, start="scratch", frozen=False, budget=1):
    """Pretrain a network if the arm says so, and train it on the few examples."""
    if start == "ImageNet":
        model = transfer.mobile_net(trial, weights=transfer.imagenet_weights())
    else:
        model = small_cnn(trial, widths=(16, 32, 32))
    if start == "other classes":
        source = transfer.pretrained(trial, lambda shape: small_cnn(shape, widths=(16, 32, 32)), optimizer=optimizers.Adam(1e-3))
        transfer.copy_weights(source, model)
    if frozen:
        transfer.freeze(model)
    return trial.fit(model, optimizer=optimizers.Adam(learning_rate), epochs=budget * trial.epochs)


experiment = Experiment(
    train,
    arms=ARMS,
    search={
        arm: {"learning_rate": log_range(3e-4, 3e-2, default=1e-3, points=5)} for arm in ARMS if not arm.startswith("ImageNet")
    },
    setting=Setting("cifar10", epochs=20, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=250),
    quick=Setting("digits", epochs=20, batch_size=16, classes=(5, 6, 7, 8, 9), train_size=50),
    baseline="scratch",
    claims=[
        Claim(
            "pretrained networks are more accurate",
            id="pretraining-helps",
            better=["frozen", "fine-tuned"],
            worse="scratch",
            margin=0.005,
        ),
        Claim(
            "they are so also against twice the epochs",
            id="helps-at-twice-epochs",
            better=["frozen", "fine-tuned"],
            worse="scratch, epochs of two stages",
            margin=0.005,
        ),
        Claim(
            "fine-tuning is not worse than frozen features",
            "fine-tuned",
            "frozen",
            id="fine-tuned-not-worse",
            margin=0.005,
            kind="not worse",
        ),
        Claim(
            "networks pretrained on ImageNet are more accurate",
            id="imagenet-helps",
            better=["ImageNet, frozen", "ImageNet, fine-tuned"],
            worse="scratch",
            margin=0.005,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
