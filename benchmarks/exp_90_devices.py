"""Exp 90: does a device give the same rows whenever a training is repeated?

Varies   what the device computes: convolutions alone, normalisation, augmentation and dropout, 16-bit numbers.
Fixed    digits, Adam at one learning rate. For `gpu.py`; not among the experiments.
Expect   equal rows, also after a kill; the accuracy of a CPU.
"""

from keras import callbacks, optimizers

from common.augment import crop, cutmix, cutout, flip, rand_augment, rotation, translation
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {},
    "batch norm": {"normalization": "batch"},
    "group norm": {"normalization": "group", "pooling": "average"},
    "augmented": {"augmented": True, "dropout": 0.2},
    "float16": {"precision": "mixed_float16"},
}


def train(trial, *, normalization=None, pooling="max", augmented=False, dropout=0.0):
    """Fit one network, with a callback whose state a resumed trial needs."""
    model = small_cnn(trial, normalization=normalization, pooling=pooling, dropout=dropout)
    everything = [flip(), translation(), rotation(), crop(), rand_augment(), cutout(0.2), cutmix()]
    plateau = callbacks.ReduceLROnPlateau("val_loss", patience=2, factor=0.7)
    return trial.fit(model, optimizer=optimizers.Adam(0.003), callbacks=[plateau], augment=everything if augmented else [])


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=10, batch_size=32))

if __name__ == "__main__":
    experiment.main()
