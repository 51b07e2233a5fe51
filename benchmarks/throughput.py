"""Measures trials per hour: this suite with one trial per core, compared with `model.fit` and PyTorch with all cores per trial.

Model A of experiment 01 on CIFAR-10, Adam, batch size 64, with validation after each epoch and one evaluation on test. All have
the same images and do the same work; imports are not timed. Runs alternate, and each number is the median over the runs.

    make bench REPEATS=3 PRECISION=float32
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
EPOCHS, BATCH = 1, 64


def images(train_size):
    """Images and labels of train, val and test as NumPy arrays."""
    from common import tasks
    from common.data.dataset import load
    from common.data.streams import Streams

    dataset = load("cifar10")
    train, val, _ = tasks.examples(dataset, tasks.classification, Streams(0), train_size=train_size)
    return [(split.images, split.labels) for split in (train, val, dataset.test())]


def suite(train_size, precision) -> float:
    """Seconds per trial of this suite, with one trial per core at a time."""
    from common.machine import cores
    from common.rows import schema, store

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.exp_01_baseline_cnn", "--arms", "loss_tuning", "--dataset", "cifar10"]
        command += ["--epochs", str(EPOCHS), "--seeds", str(cores()), "--results", folder, "--precision", precision]
        command += ["--train", str(train_size)] if train_size else []
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        (path,) = pathlib.Path(folder).glob("*/exp_01_baseline_cnn.csv")
        rows = store.read_rows(schema.Files(path.parent, "exp_01_baseline_cnn"))
    return statistics.fmean(float(row["total_seconds"]) for row in rows) / cores()


def plain_fit(train_size, precision) -> float:
    """Seconds per trial of `model.fit` on float32 arrays, with TensorFlow's default number of threads."""
    import types

    import keras

    from common import models

    (x, y), val, test = images(train_size)
    x, val, test = x.astype("float32"), (val[0].astype("float32"), val[1]), (test[0].astype("float32"), test[1])
    keras.config.set_dtype_policy(precision)
    start = time.perf_counter()
    model = models.loss_tuning(types.SimpleNamespace(input_shape=x.shape[1:], classes=10, replicas=1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, validation_data=val, verbose=0)
    model.evaluate(*test, verbose=0)
    return time.perf_counter() - start


def torch_fit(train_size, precision) -> float:
    """Seconds per trial of the same network in eager PyTorch, channels last, with PyTorch's default number of threads."""
    import torch
    from torch import nn

    def tensors(split):
        x = torch.from_numpy(split[0]).permute(0, 3, 1, 2).float().div(255).to(memory_format=torch.channels_last)
        return x, torch.from_numpy(split[1])

    (x, y), val, test = map(tensors, images(train_size))
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")
    start = time.perf_counter()
    blocks = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    blocks += [nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)]
    model = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            with cast:
                value = loss(model(x[batch]), y[batch])
            value.backward()
            optimizer.step()
        for part in (val, test):
            with torch.no_grad(), cast:
                sum((model(a).argmax(1) == b).sum() for a, b in zip(part[0].split(500), part[1].split(500), strict=True))
    return time.perf_counter() - start


SIDES = {"suite": suite, "model.fit": plain_fit, "PyTorch": torch_fit}


def measure(side: str, given) -> float | None:
    """Seconds per trial of one run, in a new process; None if the framework is not installed."""
    command = [sys.executable, __file__, "--side", side, "--precision", given.precision]
    command += ["--train", str(given.train)] if given.train else []
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if "No module named 'torch'" in done.stderr:
        return None
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    from common.commands.parsing import words

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--train", type=int, help="training images, by default all 45,000")
    parser.add_argument("--side", choices=SIDES)
    given = parser.parse_args(words(sys.argv[1:]))
    if given.side:
        print(json.dumps(SIDES[given.side](given.train, given.precision)))
        return
    turns = {side: [] for side in SIDES}
    for _ in range(given.repeats):
        for side, seconds in turns.items():
            seconds.append(measure(side, given))
    print(f"{given.precision}, {given.train or 45000} images, {EPOCHS} epoch, medians of {given.repeats} runs")
    suite_seconds = statistics.median(turns["suite"])
    for side, seconds in turns.items():
        if None in seconds:
            print(f"{side:<10} not installed")
            continue
        median = statistics.median(seconds)
        ratio = "" if side == "suite" else f"; the suite trains {median / suite_seconds:.2f} times as many"
        spread = f"({min(seconds):.1f} – {max(seconds):.1f} s)"
        print(f"{side:<10} {median:6.1f} s per trial, {3600 / median:5.0f} trials per hour {spread}{ratio}")


if __name__ == "__main__":
    main()
