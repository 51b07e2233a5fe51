"""Exp 34: what does each part of a training recipe add, alone and combined with the others?

Varies   which of five parts are used: batch normalisation, augmentation (shifts and rotations), dropout, an L2 penalty on the
         kernels, a learning rate with warm-up and cosine decay. None, each alone, all, and all but one.
Fixed    architecture otherwise, SGD with momentum, epochs; the learning rate is searched for each arm.
Expect   the whole recipe well ahead of none, and by less than the sum of what its parts add alone (He et al. 2019 add such
         refinements one by one); augmentation missed most, dropout beside batch normalisation least (Li et al. 2019).
"""

from keras import optimizers, regularizers

from common.augment import rotation, translation
from common.claims import each
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

INGREDIENTS = ["batch norm", "augmentation", "dropout", "L2", "cosine"]
ARMS = {
    "baseline": {"recipe": []},
    **{f"+ {name}": {"recipe": [name]} for name in INGREDIENTS},
    "all": {"recipe": INGREDIENTS},
    **{f"all without {name}": {"recipe": [other for other in INGREDIENTS if other != name]} for name in INGREDIENTS},
}


def train(trial, *, recipe, learning_rate):
    """Fit one network with the parts named in `recipe`."""
    model = small_cnn(
        trial,
        normalization="batch" if "batch norm" in recipe else None,
        dropout=0.3 if "dropout" in recipe else 0.0,
        kernel_regularizer=regularizers.L2(1e-4) if "L2" in recipe else None,
    )
    rate = falling(trial, learning_rate) if "cosine" in recipe else learning_rate
    augment = [translation(0.1), rotation(15)] if "augmentation" in recipe else []
    return trial.fit(model, optimizer=optimizers.SGD(rate, momentum=0.9), augment=augment)


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 1.0, default=0.01)},
    setting=Setting("cifar10", epochs=30, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=2500),
    quick=Setting("digits", epochs=60, batch_size=32, train_size=300, image_size=14),
    claims=[
        Claim("the whole recipe beats the baseline", "all", "baseline", 0.015, id="recipe-helps"),
        *each(INGREDIENTS, "the recipe is worse without {}", "all", "all without {}", 0.015, id="{} needed"),
    ],
)

if __name__ == "__main__":
    experiment.main()
