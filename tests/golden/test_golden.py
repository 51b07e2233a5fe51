"""Training gives the values of `golden.json`, every public part has a case, and changes of the training are detected."""

import ast
import inspect

import golden
import keras
import pytest

from common import (
    augment,
    calibration,
    features,
    gan,
    gradients,
    inference,
    losses,
    models,
    operations,
    optimizers,
    preprocessing,
    profiling,
    tasks,
    thresholds,
    transfer,
)
from common.errors import Misuse
from common.files import experiment_scripts
from common.running.fingerprint import PROTOCOL
from common.training.execution import load_script

REMEDY = "raise PROTOCOL in common/running/fingerprint.py and run `make golden` in the same commit"
MUTATIONS = golden.HERE / "mutations.py"
MODULES = [
    *[augment, calibration, features, gan, gradients, inference, losses, models, operations, optimizers, preprocessing],
    *[profiling, tasks, thresholds, transfer],
]
"""Modules whose public functions and classes need a case."""
PARTS = {
    "augment.symmetric_beta": "augment.mixup",
    "calibration.best_temperature": "calibration.Tempered",
    "features.Linear": "features.hog_svm",
    "features.hog": "features.hog_svm",
    "features.pixels": "features.pixel_regression",
    "gan.adversarial": "gan.conditional_gan",
    "gan.generated": "gan.conditional_gan",
    "gradients.by_probability": "gradients.record_logit_norms",
    "gradients.layer_norms": "gradients.record_layer_norms",
    "gradients.logit_norms": "gradients.record_logit_norms",
    "gradients.weights_norm": "gradients.record_layer_norms",
    "inference.Converted": "inference.deployed",
    "inference.convert": "inference.deployed",
    "inference.Mask": "inference.prune",
    "inference.sparsity_of": "inference.prune",
    "keras.losses.MeanSquaredError": "tasks.rotated",
    "losses.Centres": "losses.centre_loss",
    "losses.with_centres": "losses.centre_loss",
    "operations.apply_drawn": "augment.rand_augment",
    "operations.apply_operation": "augment.operation",
    "operations.warp": "augment.crop",
    "optimizers.falling": "optimizers.sgd",
    "optimizers.named": "optimizers.clipping",
    "models.batch_norm": "models.small_cnn",
    "models.with_one_output": "losses.log_loss",
    "preprocessing.Linear": "preprocessing.grey",
    "profiling.Watch": "profiling.record",
    "profiling.compute_bits": "profiling.record",
    "tasks.classification": "keras.losses.CategoricalCrossentropy",
    "transfer.copy_weights": "transfer.pretrained",
}
"""Public names that the case of another name covers."""
DOWNLOADED = {"transfer.mobile_net", "transfer.imagenet_weights"}
"""Public names without a case: their weights are downloaded."""


@pytest.fixture(scope="module")
def trained():
    """The values of all cases, with those of the mutations."""
    return golden.measured(*golden.SCRIPTS, MUTATIONS)


@pytest.fixture(scope="module")
def mutated():
    """The mutations, by name."""
    return load_script(MUTATIONS).arms


@pytest.fixture(scope="module")
def now(trained, mutated):
    return {**trained, "cases": {name: values for name, values in trained["cases"].items() if name not in mutated}}


@pytest.fixture(scope="module")
def names(now):
    """Names of the cases, without the part after a comma."""
    return {name.partition(",")[0] for name in now["cases"]}


def test_the_golden_file_has_this_protocol():
    assert golden.read()["protocol"] == PROTOCOL, "run `make golden` in the commit that changes PROTOCOL"


@pytest.mark.slow
def test_training_gives_the_golden_values(now):
    recorded = golden.read()
    changed = golden.differences(recorded, now)
    kinds = {**{f"file: {kind}": entry for kind, entry in recorded["kinds"].items()}, f"this machine: {now['kind']}": now}
    where = "\n".join(f"{name}, {entry['versions']}" for name, entry in kinds.items())
    listed = "\n".join(f"{name}: {what}" for name, what in changed.items())
    assert not changed, f"the bits of training have changed: {REMEDY}\n{where}\n{listed}"


@pytest.mark.slow
def test_every_case_is_in_the_golden_file(now):
    assert set(now["cases"]) == golden.known(golden.read()), "run `make golden`"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_public_part_has_a_case(module, names):
    room = module.__name__.removeprefix("common.")
    parts = {f"{room}.{name}" for name, value in vars(module).items() if not name.startswith("_") and is_part(value, module)}
    without = {name for name in parts - DOWNLOADED if PARTS.get(name, name) not in names}
    assert not without, "add a case to tests/golden and run `make golden`"


def is_part(value, module):
    """Whether a module defines a value that trials are trained with."""
    if module is tasks:
        return isinstance(value, tasks.Task)
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


@pytest.mark.slow
@pytest.mark.parametrize("module", ["losses", "optimizers", "callbacks", "regularizers"])
def test_every_class_of_keras_that_an_experiment_uses_has_a_case(module, names):
    words = set().union(*map(words_of, experiment_scripts()))
    classes = {word for word in words if word[:1].isupper() and inspect.isclass(getattr(getattr(keras, module), word, None))}
    without = {name for name in (f"keras.{module}.{cls}" for cls in classes) if PARTS.get(name, name) not in names}
    assert not without, "add a case to tests/golden and run `make golden`"


def words_of(path):
    """Names, attributes and strings of a script: some experiments name an optimizer in their arms."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    yield from (node.attr for node in nodes if isinstance(node, ast.Attribute))
    yield from (node.id for node in nodes if isinstance(node, ast.Name))
    yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.slow
def test_a_case_trained_again_gives_the_same_values(trained, mutated):
    case = mutated["no mutation"]["case"]
    assert not golden.change(trained["cases"][case], trained["cases"]["no mutation"], tolerance=None)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", [name for name in load_script(MUTATIONS).arms if name != "no mutation"])
def test_a_changed_mechanism_is_noticed_on_any_processor(mutation, trained, mutated):
    before, after = trained["cases"][mutated[mutation]["case"]], trained["cases"][mutation]
    assert golden.change(before, after, golden.TOLERANCE)
    assert before["weights"] != after["weights"]


BEFORE = {"loss": [2.0, 1.0], "norm": [0.5, 0.5], "score": 1.0, "weights": "a"}


@pytest.mark.parametrize(
    ("after", "tolerance", "what"),
    [
        ({}, None, ""),
        ({"weights": "b"}, None, "weights a → b"),
        ({"weights": "b"}, 1e-3, ""),
        ({"score": 1.0005}, None, "score 1.0 → 1.0005"),
        ({"score": 1.0005}, 1e-3, ""),
        ({"score": 1.002}, 1e-3, "score 1.0 → 1.002"),
        ({"loss": [2.0, 1.002]}, 1e-3, "loss [2.0, 1.0] → [2.0, 1.002]"),
        ({"loss": [2.0]}, 1e-3, "loss [2.0, 1.0] → [2.0]"),
        ({"measures": [3.0]}, 1e-3, "measures [] → [3.0]"),
    ],
)
def test_values_are_compared_exactly_on_one_kind_of_processor_and_to_three_digits_between_kinds(after, tolerance, what):
    assert golden.change(BEFORE, BEFORE | after, tolerance) == what


OTHER = BEFORE | {"weights": "b"}
"""Differs from `BEFORE` only in bits."""
FAR = BEFORE | {"score": 1.002, "weights": "c"}


def measured(protocol=1, kind="k", **cases):
    """Results that `golden.measured` could return."""
    return {"protocol": protocol, "kind": kind, "versions": "v", "cases": cases}


def file(protocol=1, **kinds):
    return {"protocol": protocol, "kinds": {kind: {"versions": "v", "cases": cases} for kind, cases in kinds.items()}}


@pytest.mark.parametrize(
    ("recorded", "changed"),
    [
        (file(k={"a": BEFORE}), ["a"]),  # the same kind: bits count
        (file(k={"a": OTHER}, other={"a": FAR}), []),  # and no other kind does
        (file(other={"a": BEFORE}), []),  # three digits count
        (file(other={"a": FAR}), ["a"]),
        (file(one={"a": BEFORE}, two={"a": FAR}), ["a"]),  # of each other kind
        (file(k={"b": BEFORE}, other={"a": BEFORE}), []),  # the kind has an entry without the case
        (file(k={"b": BEFORE}, other={"a": FAR}), ["a"]),
        (file(k={"b": BEFORE}), []),  # a new case
    ],
)
def test_a_case_is_compared_with_the_same_kind_or_with_all_others_up_to_a_tolerance(recorded, changed):
    assert list(golden.differences(recorded, measured(a=OTHER))) == changed


def test_a_difference_between_kinds_names_the_other_one():
    assert golden.differences(file(other={"a": FAR}), measured(a=BEFORE)) == {"a": "score 1.002 → 1.0 (of other)"}


@pytest.mark.parametrize(
    "recorded",
    [file(k={"a": BEFORE, "b": BEFORE}), file(other={"a": FAR}), file(k={"b": BEFORE}, other={"a": FAR, "b": BEFORE})],
)
def test_changed_values_under_the_same_protocol_are_refused(recorded):
    with pytest.raises(Misuse, match=r"raise PROTOCOL in common/running/fingerprint\.py.*1 changed cases, a"):
        golden.updated(recorded, measured(a=OTHER, b=BEFORE))


def test_updating_replaces_the_entry_of_this_kind_and_keeps_others_of_this_protocol():
    same = {"a": BEFORE}
    assert golden.updated(file(k=same), measured(a=BEFORE, b=OTHER)) == file(k={"a": BEFORE, "b": OTHER})
    assert golden.updated(file(k=same), measured(kind="other", a=OTHER)) == file(k=same, other={"a": OTHER})
    assert golden.updated(file(k=same, other={"a": OTHER}), measured(a=BEFORE)) == file(k=same, other={"a": OTHER})
    assert golden.updated(file(k=same, other=same), measured(2, a=FAR)) == file(2, k={"a": FAR})
    assert golden.updated({"protocol": None, "kinds": {}}, measured(a=BEFORE)) == file(k=same)


def test_updating_removes_deleted_cases_from_all_entries():
    both = {"a": BEFORE, "b": BEFORE}
    assert golden.updated(file(k=both, other=both), measured(a=BEFORE)) == file(k={"a": BEFORE}, other={"a": BEFORE})


def test_the_file_has_a_line_for_each_case(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.json")
    assert golden.read()["kinds"] == {}
    values = file(k={"a": BEFORE, "b": BEFORE}, other={"a": OTHER})
    golden.FILE.write_text(golden.text(values))
    assert golden.read() == values
    assert golden.known(values) == {"a", "b"}
    assert sum("weights" in line for line in golden.FILE.read_text().splitlines()) == 3
