"""Exp 21: does the preprocessing of the pixels matter?

Varies   the preprocessing layer of the model, whose statistics come from the train split alone; the learning rate is searched for
         each arm.
Fixed    architecture, SGD with momentum, epochs.
Expect   centred inputs of equal variance train fastest (LeCun et al. 1998), so raw pixels do worst within few epochs even at
         their best rate; grey loses where colour tells classes apart. On grey images `per channel` equals `standardised`, and
         `grey` equals `/255`.
"""

from common import preprocessing
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "/255": {"prepare": "divided"},
    "raw": {"prepare": "raw"},
    "standardised": {"prepare": "standardised"},
    "per channel": {"prepare": "per channel"},
    "grey": {"prepare": "grey"},
    "ZCA": {"prepare": "whitened"},
}


def train(trial, *, prepare, learning_rate):
    """Fit one network behind one preprocessing layer."""
    layer = {
        "raw": preprocessing.raw,
        "divided": preprocessing.divided,
        "standardised": lambda: preprocessing.standardised(trial.train),
        "per channel": lambda: preprocessing.standardised(trial.train, per_channel=True),
        "grey": lambda: preprocessing.grey(trial.input_shape[-1]),
        "whitened": lambda: preprocessing.whitened(trial.train),
    }[prepare]()
    return trial.fit(small_cnn(trial, preprocessing=layer), optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-5, 0.1, default=0.01)},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="/255",
    claims=[
        Claim("dividing by 255 beats raw pixels", "/255", "raw", 0.015, id="scaling-beats-raw"),
        Claim("standardising beats dividing by 255", "standardised", "/255", 0.015, id="standardising-helps"),
        Claim(
            "standardising each channel beats standardising all together",
            "per channel",
            "standardised",
            0.015,
            id="per-channel-helps",
        ),
        Claim("colour images beat grey ones", "/255", "grey", 0.015, id="colour-helps"),
        Claim("ZCA whitening beats standardising", "ZCA", "standardised", 0.015, id="zca-helps"),
    ],
)

if __name__ == "__main__":
    experiment.main()
