"""Exp 21: does it matter how pixels are prepared for the network?

Varies   preprocessing, a layer of the model that knows the train split alone; each at a learning rate of its own.
Fixed    architecture, SGD with momentum, epochs.
Expect   centred inputs of equal variance train fastest (LeCun et al. 1998), so raw pixels do worst within few epochs even at
         their own rate; grey loses where colour tells classes apart. Grey images know no difference between the channels' and
         the whole mean, nor between grey and /255.
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
    """Fit one network behind one preprocessing."""
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
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    baseline="/255",
    claims=[
        Claim("dividing by 255 beats raw pixels", id="scaling-beats-raw", better="/255", worse="raw", margin=0.015),
        Claim("standardising beats dividing by 255", id="standardising-helps", better="standardised", worse="/255", margin=0.015),
        Claim(
            "standardising each channel beats all at once",
            id="per-channel-helps",
            better="per channel",
            worse="standardised",
            margin=0.015,
        ),
        Claim("colour helps", id="colour-helps", better="/255", worse="grey", margin=0.015),
        Claim("ZCA whitening beats standardising", id="zca-helps", better="ZCA", worse="standardised", margin=0.015),
    ],
)

if __name__ == "__main__":
    experiment.main()
