"""Exp 32: do images made by a GAN help where there are few real ones?

Varies   what a classifier is trained on: real images; these and thrice as many made by a class-conditional GAN, which has seen
         the same real ones and no others; real images, shifted and turned at random.
Fixed    the classifier, how many updates it gets, momentum SGD at a rate that suits real images; the GAN has a rate of its own.
Expect   shifting and turning helps; generated images add little to what their generator has seen, and may hurt (Shmelkov et
         al. 2018, who find them less diverse than real ones), though gains with very few examples are reported (Antoniou et
         al. 2017).
"""

import numpy as np
from keras import optimizers

from common import gan
from common.augment import rotation, translation
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling, sgd
from common.space import log_range

ARMS = {
    "real": {"add": "nothing"},
    "real + generated": {"add": "generated"},
    "real + augmentation": {"add": "augmentation"},
}
MORE = 3
"""Generated images per real one."""
GAN_BUDGET = 20
"""Passes of the GAN over the real images, per epoch of the setting."""


def train(trial, *, add, learning_rate, gan_rate=None):
    """Fit the classifier, after a GAN if the arm wants its images."""
    examples, epochs = trial.train, (1 + MORE) * trial.epochs
    if add == "generated":
        passes = GAN_BUDGET * trial.epochs
        rate = falling(trial, gan_rate, epochs=passes)
        players = {name: optimizers.Adam(rate, beta_1=0.5) for name in ("generator", "discriminator")}
        model = trial.fit(gan.conditional_gan(trial), optimizer=players, step=gan.adversarial, stage="gan", epochs=passes)
        labels = np.tile(trial.train.labels, MORE)
        examples, epochs = trial.train.join(gan.generated(trial, model, labels), labels), trial.epochs
    return trial.fit(
        small_cnn(trial),
        optimizer=sgd(trial, learning_rate, epochs=epochs, on=examples),
        augment=[translation(0.1), rotation(15)] if add == "augmentation" else [],
        on=examples,
        epochs=epochs,
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3), arms={"real + generated": {"gan_rate": log_range(1e-4, 1e-2)}}),
    setting=Setting("cifar10", epochs=10, batch_size=50, train_size=2000),
    quick=Setting("digits", epochs=10, batch_size=20, train_size=100),
    baseline="real",
    claims=[
        Claim(
            "GAN-generated images help when data are scarce",
            id="generated-help",
            better="real + generated",
            worse="real",
            margin=0.015,
        ),
        Claim(
            "shifting and turning helps when data are scarce",
            id="changed-help",
            better="real + augmentation",
            worse="real",
            margin=0.015,
        ),
        Claim(
            "shifting and turning helps more than generated images",
            id="changed-beat-generated",
            better="real + augmentation",
            worse="real + generated",
            margin=0.015,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
