"""Measures the time of `make report` and of drawing one experiment, and the size of the page, with made-up rows.

make bench-report
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd

from common.files import PROJECT, archive_bytes, array_bytes, write_atomic
from common.machine import cores, device
from common.rows import schema, store

EXPERIMENTS, ARMS, SEEDS, EPOCHS, IMAGES, CLASSES = 40, 6, 10, 20, 360, 10
CHECKSUM = "c" * 64


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, alone = pathlib.Path(name) / "all", pathlib.Path(name) / "alone"
        for number in range(EXPERIMENTS):
            make(schema.Files(folder / "quick-digits", f"exp_{number:02d}_made"), number)
        make(schema.Files(alone / "quick-digits", "exp_03_made"), 3)
        print(f"{EXPERIMENTS} experiments of {ARMS} arms and {SEEDS} seeds, {cores()} cores, {device()}")
        whole = seconds("report", folder)
        figures = len(list(folder.rglob("*.png")))
        print(f"report, all {figures} figures to draw  {whole:6.1f} s (target: under 60)")
        print(f"report, none to draw          {seconds('report', folder):6.1f} s (target: under 10)")
        one = seconds("plots", alone)
        print(f"figures of one experiment     {one:6.1f} s (target: under 3; {len(list(alone.rglob('*.png')))} figures)")
        print(f"the same, none to draw        {seconds('plots', alone):6.1f} s")
        print(f"index.html                    {(folder / 'index.html').stat().st_size / 1e6:6.1f} MB (target: under 10)")


def seconds(command: str, folder: pathlib.Path) -> float:
    """Time of one command, from its start to its end."""
    start = time.perf_counter()
    arguments = [sys.executable, "-m", f"common.commands.{command}", "--results", str(folder)]
    subprocess.run(arguments, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def make(files: schema.Files, number: int) -> None:
    """Write made-up files of an experiment. In every third experiment the arms differ in a number."""
    generator = np.random.default_rng(number)
    labels = generator.integers(0, CLASSES, IMAGES)
    names = ["baseline", *(f"rate={10.0**-i:g}" if number % 3 == 0 else f"arm {i}" for i in range(1, ARMS))]
    arms = {arm: {"rate": 10.0**-i if i else 0.0} if number % 3 == 0 else {"kind": arm} for i, arm in enumerate(names)}
    rows, epochs, arrays, samples = [], [], {schema.labels_key(CHECKSUM): labels.astype(np.uint8)}, {}
    for seed in range(SEEDS):
        for i, arm in enumerate(names):
            logits = generator.normal(size=(IMAGES, CLASSES)).astype(np.float32)
            logits[np.arange(IMAGES), labels] += 2.5 + 0.1 * i
            arrays[f"{arm}/{seed}"] = logits.argmax(1).astype(np.uint8)
            write_atomic(files.local("logits", arm, seed, ".npy"), array_bytes(logits))
            identity = {"experiment": files.experiment, "arm": arm, "seed": seed}
            right = float((logits.argmax(1) == labels).mean())
            diverged = number % 10 == 0 and i == 1 and seed % 3 == 0
            row = identity | {"status": "diverged" if diverged else "done", "fingerprint": f"{number:04d}{i}{seed}" * 8}
            row |= {f"{split}_accuracy": right + extra for split, extra in (("train", 0.02), ("val", 0.01), ("test", 0.0))}
            row |= {f"{split}_nll": 1 - right for split in ("train", "val", "test")} | {"test_ece": 0.05, "best_epoch": 7}
            row |= {"train_size": 300, "val_size": 287, "test_size": IMAGES, "epochs": EPOCHS, "batch_size": 32}
            row |= {"parameters": 1000 * (i + 1), "steps": 10 * EPOCHS, "final_epoch": EPOCHS, "beside": 1, "resumes": 0}
            row |= {f"{what}_seconds": generator.gamma(9, 0.3) for what in ("train", "input", "total")}
            row |= {"images_per_second": 5000.0, "peak_memory_mb": 700, "data_checksum": CHECKSUM, "commit": "0" * 40}
            row |= {"arguments": json.dumps(arms[arm]), "setting": json.dumps({"dataset": "digits", "epochs": EPOCHS})}
            rows.append(row | {"versions": "Python 3.11, packages", "device": "a processor", "finished": f"2026-01-01 {seed}"})
            for e in range(EPOCHS):
                fields = {
                    "stage": "fit",
                    "epoch": e + 1,
                    "train_loss": 2 / (e + 1),
                    "val_loss": 2 / (e + 1),
                    "learning_rate": 0.1,
                }
                epochs.append(identity | fields | {"val_accuracy": right * (1 - 0.5 / (e + 1)), "seconds": 0.1})
    for arm in names:
        samples[arm] = np.kron(generator.integers(0, 255, (8, 4, 4, 1)), np.ones((7, 7, 1), int)).astype(np.uint8)
    fields = {"kind": "superiority", "metric": "test_accuracy", "lower_is_better": False, "within": None, "target": None}
    claims = [
        {"text": f"{arm} beats the baseline", "id": f"helps-{i}", "better": arm, "worse": "baseline", "margin": 0.01, **fields}
        for i, arm in enumerate(names[1:4], start=1)
    ]
    claims[0] |= {"text": "it gets there sooner", "metric": "steps_to_target", "target": 0.6, "margin": 10}
    doc = "Exp: does it?\n\nVaries   what it says.\nFixed    the rest.\nExpect   a small gain, as everywhere."
    declaration = {"experiment": files.experiment, "doc": doc, "question": "does it matter?", "arms": arms, "claims": claims}
    setting = {"setting_name": "quick", "demonstration": True, "setting": {"dataset": "digits"}, "protocol": 1}
    store.write_declaration(files, declaration | setting | {"baseline": "baseline", "seeds": SEEDS})
    pd.DataFrame(rows, columns=schema.NAMES).to_csv(files.rows, index=False)
    pd.DataFrame(epochs, columns=schema.EPOCH_NAMES).to_csv(files.epochs, index=False)
    write_atomic(files.predictions, archive_bytes(arrays))
    write_atomic(files.samples, archive_bytes(samples))


if __name__ == "__main__":
    main()
