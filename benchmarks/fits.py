"""`Fit`, a process that trains one trial with `model.fit` or with PyTorch, and its program.

The program prints `ready` once all is imported and the images are in memory, and waits for a line on stdin. It trains with a pass
over the validation images after each epoch, passes over the test images, and prints `done` with the training images per second
in the epochs after the first, which compiles; 0 if there is no other.
"""

import argparse
import math
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common import tasks
from common.data.dataset import load
from common.data.streams import Streams
from common.errors import Failure
from common.files import PROJECT

Splits = list[tuple[np.ndarray, np.ndarray]]
"""Images, uint8 [n, height, width, channels], and labels [n] of train, val and test."""
PASS = 500
"""Batch size of PyTorch's passes over validation and test images."""


class Fit:
    """A process that is ready to train one trial; a context manager, at whose end it is killed.

    Args:
        words: framework, network and options of the program.
        environment: all of its variables.

    Raises:
        Failure: from any method, if the process ends too early.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]):
        command = [sys.executable, "-m", "benchmarks.fits", *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=PROJECT, env={**environment, "PYTHONPATH": str(PROJECT)}, text=True, **pipes)
        self.name = " ".join(words[:2])

    def __enter__(self) -> "Fit":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_until_ready(self) -> None:
        """Wait until all is imported and the images are in memory."""
        self._wait_for("ready")

    def start(self) -> None:
        """Let it train."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def images_per_second(self) -> float:
        """Wait until it has trained. Returns the training images per second in the epochs after the first; 0 if there is none."""
        return float(self._wait_for("done"))

    def _wait_for(self, word: str) -> str:
        """Wait for a line that begins with the word. Returns the rest of the line."""
        last = "no output"
        for line in self.process.stdout:
            if line.split()[:1] == [word]:
                return line.partition(word)[2]
            last = line.strip() or last
        raise Failure(f"{self.name} ended before it was {word}: {last}")


def images(given: argparse.Namespace) -> Splits:
    """The images of a dataset, split as the suite splits them for seed 0."""
    dataset = load(given.dataset, given.size, given.colour)
    train, val, _ = tasks.examples(dataset, tasks.classification, Streams(0), train_size=given.train)
    return [(split.images, split.labels) for split in (train, val, dataset.test())]


def keras_trial(given: argparse.Namespace) -> Callable[[], float]:
    """A trial of plain `model.fit` on float32 arrays with validation data, all else as it is by default."""
    import keras

    from common import models, optimizers

    train, val, test = [(x.astype("float32"), y) for x, y in images(given)]
    keras.config.set_dtype_policy(given.precision)
    shape = {"input_shape": train[0].shape[1:], "classes": 10, "replicas": 1}
    about = types.SimpleNamespace(**shape, train=train[0], batch_size=given.batch, epochs=given.epochs)

    class Clock(keras.callbacks.Callback):
        """Measures the training of the epochs after the first."""

        seconds = 0.0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.start = epoch, time.perf_counter()

        def on_test_begin(self, logs=None):
            keras.ops.convert_to_numpy(self.model.trainable_variables[0])  # waits for the updates of a GPU
            if self.epoch:
                self.seconds += time.perf_counter() - self.start

    def trial():
        model, clock = getattr(models, given.network)(about), Clock()
        optimizer = keras.optimizers.Adam() if given.rate is None else optimizers.sgd(about, given.rate)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        model.fit(*train, batch_size=given.batch, epochs=given.epochs, validation_data=val, verbose=0, callbacks=[clock])
        model.evaluate(*test, verbose=0)
        return len(train[0]) * (given.epochs - 1) / clock.seconds if clock.seconds else 0.0

    return trial


def torch_trial(given: argparse.Namespace) -> Callable[[], float]:
    """A trial of the same network, optimizer and schedule in eager PyTorch, channels last."""
    import torch
    from torch import nn

    if given.threads:
        torch.set_num_threads(given.threads)

    def tensors(split):
        x = torch.from_numpy(np.array(split[0])).permute(0, 3, 1, 2).float().div(255)
        return x.to(memory_format=torch.channels_last), torch.from_numpy(np.array(split[1])).long()

    (x, y), val, test = map(tensors, images(given))
    cast = torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "mixed_bfloat16")
    steps = given.epochs * math.ceil(len(x) / given.batch)

    def rising_and_falling(step: int) -> float:
        """The factor of the learning rate, as in `common.optimizers.warm_up_cosine`."""
        rising = max(1, round(steps / 20)) - 1
        return min((step + 1) / (rising + 1), (1 + math.cos(math.pi * max(step - rising, 0) / (steps - rising))) / 2)

    def trial():
        model = NETWORKS[given.network](nn).to(memory_format=torch.channels_last)
        if given.rate is None:
            optimizer, schedule = torch.optim.Adam(model.parameters(), eps=1e-7), None
        else:
            optimizer = torch.optim.SGD(model.parameters(), given.rate, momentum=0.9)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rising_and_falling)
        loss = nn.CrossEntropyLoss()

        def correct(split) -> int:
            with torch.no_grad(), cast:
                return sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(*(t.split(PASS) for t in split), strict=True))

        seconds = 0.0
        for epoch in range(given.epochs):
            start = time.perf_counter()
            for batch in torch.randperm(len(x)).split(given.batch):
                optimizer.zero_grad()
                with cast:
                    value = loss(model(x[batch]), y[batch])
                value.backward()
                optimizer.step()
                if schedule:
                    schedule.step()
            seconds += time.perf_counter() - start if epoch else 0.0
            correct(val)
        correct(test)
        return len(x) * (given.epochs - 1) / seconds if seconds else 0.0

    return trial


def _loss_tuning(nn):
    blocks = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*blocks, *head)


def _small_cnn(nn):
    blocks = [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(2048, 10))


NETWORKS = {"loss_tuning": _loss_tuning, "small_cnn": _small_cnn}
"""Function of `common.models` -> the same network in PyTorch."""
FRAMEWORKS = {"keras": keras_trial, "torch": torch_trial}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains one trial with model.fit or with PyTorch.")
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--colour")
    for name in ("size", "train"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("batch", "epochs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, help="peak learning rate of SGD; without it Adam trains")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, help="of PyTorch, by default as many as it takes")
    given = parser.parse_args()
    trial = FRAMEWORKS[given.framework](given)
    print("ready", flush=True)
    input()
    print("done", trial(), flush=True)


if __name__ == "__main__":
    main()
