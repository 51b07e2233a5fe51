"""Made-up rows and declarations, whose verdicts can be computed by hand."""

import json

import numpy as np

from common.claims import LONGEST_ID
from common.rows import schema, store
from common.rows.table import Table
from common.text import to_id
from common.verdicts.judge import judge

LABELS = np.arange(400) % 10


CHECKSUM = "c" * 64


def declared(**fields):
    """A declaration with a full setting, which decides claims, and the given fields."""
    about = {"experiment": "exp_90_made", "question": "?", "arms": {}, "claims": [], "protocol": 3, "setting_name": "full"}
    return {**about, "demonstration": False, "setting": {"dataset": "mnist"}, "seeds": 5, **fields}


def claim(text="a beats b", better="a", worse="b", margin=0.02, **changes):
    fields = {"kind": "superiority", "metric": "test_accuracy", "lower_is_better": False, "within": None, "target": None}
    fields["id"] = to_id(text)[:LONGEST_ID].strip("-")
    return {"text": text, "better": better, "worse": worse, "margin": margin, **fields, **changes}


class Made:
    """Writes rows of an experiment with given accuracies. Arms misclassify the same images as far as possible."""

    def __init__(self, folder):
        self.files = schema.Files(folder / "mnist", "exp_90_made")
        self.arms = {}

    def right(self, arm, seed):
        """1 for each test image that an arm classifies correctly in a seed, else 0."""
        return Table.read(self.files).correct(arm, seed)

    def add(self, arm, accuracies, *, statuses=None, noise=0.0, arguments=None, images=None, **columns):
        """Rows of an arm, a seed per accuracy.

        Args:
            noise: added to the accuracy on val; images: number of an order of images, of which the first are wrong in all
                seeds; by default each seed has another order.
            columns: a value per seed.
        """
        self.arms[arm] = arguments or {}
        for seed, accuracy in enumerate(accuracies):
            generator = np.random.default_rng(seed if images is None else images)
            wrong = generator.permutation(len(LABELS))[: round(len(LABELS) * (1 - accuracy))]
            predicted = LABELS.copy()
            predicted[wrong] = (predicted[wrong] + 1) % 10
            identity = {"experiment": self.files.experiment, "arm": arm, "seed": seed}
            row = {
                **identity,
                "status": (statuses or {}).get(seed, "done"),
                "data_checksum": CHECKSUM,
                "fingerprint": f"{arm}{seed}",
                "arguments": json.dumps(self.arms[arm]),
                "setting": json.dumps({"dataset": "mnist"}),
            }
            row |= {"test_accuracy": np.mean(predicted == LABELS), "test_size": len(LABELS), "train_size": 100, "epochs": 5}
            row |= {"val_accuracy": accuracy + noise, "val_nll": 1.0, "train_accuracy": 0.99, "steps": 50, "final_epoch": 5}
            row |= {"beside": 0, "train_seconds": 3.0, "input_seconds": 0.0, "total_seconds": 3.0}
            row |= {name: values[seed] for name, values in columns.items()}
            epochs = [
                {
                    **identity,
                    "stage": "fit",
                    "epoch": e + 1,
                    "val_accuracy": min(max(accuracy - 0.1 + 0.03 * e, 0), 1),
                    "train_loss": 1.0,
                }
                for e in range(5)
            ]
            outcome = store.Outcome(row=row, epochs=epochs, predicted=predicted.astype(np.uint8))
            store.store(self.files, outcome, list(self.arms))
        store.fold(self.files)
        store.write_labels(self.files, schema.labels_key(CHECKSUM), LABELS)

    def judge(self, *claims, **fields):
        store.write_declaration(self.files, declared(arms=self.arms, claims=list(claims), **fields))
        return judge(Table.read(self.files))


SPREAD = [0.0, 0.005, -0.005, 0.01, -0.01]


def around(mean, n=5):
    return [mean + SPREAD[i % 5] for i in range(n)]


def two_arms(folder, name="exp_90_made"):
    """Files of an experiment of two arms and five seeds, without logits."""
    made = Made(folder)
    made.files = made.files._replace(experiment=name)
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    store.write_declaration(made.files, declared(arms=made.arms, claims=[claim()], baseline="b"))
    return made.files
