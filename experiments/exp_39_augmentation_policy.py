"""Exp 39: does an automatically found augmentation policy beat hand-chosen ones?

Varies   how training images are changed: not at all; by flips and shifts, chosen by hand; by these and RandAugment at its
         published strength, a random policy, or a searched one. A policy is three operations, one after the other, each with a
         strength and applied to an image with probability 1/2. The random policy is another one for each seed, and so is the
         searched one: the best on val of 16 random ones and none.
Fixed    architecture, SGD with momentum, one learning rate, searched on the baseline; epochs of a training. Validation and test
         images are never changed.
Expect   search ahead of flips and shifts (Cubuk et al. 2019), of RandAugment by little (Cubuk et al. 2020) and of a random policy
         by little (Müller & Hutter 2021); so small a network underfits, and gains less than those of the papers. On digits a
         flip makes other characters, and no augmentation is best.
"""

from common.augment import flip, operation, rand_augment, translation
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.policies import OPERATIONS, STRENGTHS, random_policy, steps_of
from common.space import choice, log_range

ARMS = {
    "baseline": {"policy": "none"},
    "flip and crop": {"policy": "by hand"},
    "RandAugment": {"policy": "RandAugment"},
    "random policy": {"policy": "random"},
    "searched": {"policy": "searched"},
}
LENGTH = 3  # operations of a policy
STEPS = range(1, LENGTH + 1)
SPACE = {f"operation_{i}": choice(*OPERATIONS) for i in STEPS} | {f"strength_{i}": choice(*STRENGTHS) for i in STEPS}


def train(trial, *, policy, learning_rate, **searched):
    """Fit the network to images changed by one policy."""
    augment = [] if policy == "none" else [flip(0.5), translation(1 / 8)]  # 4 pixels of 32, as He et al. (2016) pad and crop
    if policy == "RandAugment":
        # N = 3 and M = 4 of 10, which Cubuk et al. (2020, A.2.1) chose on CIFAR-10 for the smallest of their networks.
        augment.append(rand_augment(operations=3, strength=0.4))
    if policy == "random":
        searched = random_policy(trial.streams.generator("augment", "policy"), LENGTH)
    augment += [operation(name, strength) for name, strength in steps_of(searched)]
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate), augment=augment)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3), arms={"searched": SPACE}),
    tuner="random",  # the policies of the arm "random policy", so that the choice on val is all that a search adds
    points=16,
    search_per_seed=True,  # a seed's difference includes the luck of its search
    setting=Setting("cifar10", epochs=40, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    claims=[
        Claim("a searched policy beats flips and crops", "searched", "flip and crop", 0.015, id="search-beats-by-hand"),
        Claim("a searched policy beats RandAugment", "searched", "RandAugment", 0.015, id="search-beats-rand"),
        Claim("a searched policy beats a random one", "searched", "random policy", 0.015, id="search-beats-random"),
        Claim("a searched policy beats no augmentation", "searched", "baseline", 0.015, id="search-helps"),
    ],
)

if __name__ == "__main__":
    experiment.main()
