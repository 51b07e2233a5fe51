"""Training gives the values of `golden.json`, every part has a case, and a changed mechanism is noticed."""

import ast
import inspect

import golden
import keras
import pytest

from common import augment, gan, losses, models, optimizers, preprocessing, tasks, transfer
from common.errors import Misuse
from common.files import experiment_scripts
from common.running.fingerprint import PROTOCOL
from common.training.execution import load_script

REMEDY = "raise PROTOCOL in common/running/fingerprint.py and run `make golden` in the same commit"
MUTATIONS = golden.HERE / "mutations.py"
PARTS = {
    "augment.symmetric_beta": "augment.mixup",
    "augment.apply_operation": "augment.rand_augment",
    "gan.adversarial": "gan.conditional_gan",
    "gan.generated": "gan.conditional_gan",
    "keras.losses.MeanSquaredError": "tasks.rotated",
    "losses.Centres": "losses.centre_loss",
    "models.batch_norm": "models.small_cnn",
    "preprocessing.Linear": "preprocessing.grey",
    "tasks.classification": "keras.losses.CategoricalCrossentropy",
    "transfer.copy_weights": "transfer.pretrained",
}
"""Public names that the case of another one trains with."""
DOWNLOADED = {"transfer.mobile_net", "transfer.imagenet_weights"}
"""Public names without a case: their weights are downloaded."""


@pytest.fixture(scope="module")
def trained():
    """The values of now, those of the mutations among the others."""
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
    """Of cases, without what tells several cases of a name apart."""
    return {name.partition(",")[0] for name in now["cases"]}


def test_the_file_is_of_this_protocol():
    assert golden.read()["protocol"] == PROTOCOL, "run `make golden` in the commit that changes PROTOCOL"


def test_training_gives_the_golden_values(now):
    recorded = golden.read()
    changed = golden.differences(recorded, now)
    where = "\n".join(f"{name}: {values['kind']}, {values['versions']}" for name, values in (("file", recorded), ("here", now)))
    listed = "\n".join(f"{name}: {what}" for name, what in changed.items())
    assert not changed, f"the bits of training have changed: {REMEDY}\n{where}\n{listed}"


def test_every_case_is_in_the_file(now):
    assert set(now["cases"]) == set(golden.read()["cases"]), "run `make golden`"


@pytest.mark.parametrize("module", [augment, gan, losses, models, optimizers, preprocessing, tasks, transfer])
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


def test_a_case_trained_again_comes_to_the_same(trained, mutated):
    case = mutated["no mutation"]["case"]
    assert not golden.change(trained["cases"][case], trained["cases"]["no mutation"], tolerance=None)


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
    ],
)
def test_bits_count_on_one_kind_of_processor_and_three_digits_between_kinds(after, tolerance, what):
    assert golden.change(BEFORE, BEFORE | after, tolerance) == what


def file(protocol=1, kind="k", **cases):
    return {"protocol": protocol, "kind": kind, "versions": "", "cases": cases}


def test_golden_values_of_a_protocol_stand():
    other = BEFORE | {"weights": "b"}
    with pytest.raises(Misuse, match=r"raise PROTOCOL in common/running/fingerprint\.py.*1 changed cases, a"):
        golden.check_protocol(file(a=BEFORE, b=BEFORE), file(a=other, b=BEFORE))
    golden.check_protocol(file(a=BEFORE), file(a=BEFORE, b=other))  # a case that is new
    golden.check_protocol(file(a=BEFORE, b=BEFORE), file(a=BEFORE))  # one that is gone
    golden.check_protocol(file(a=BEFORE), file(2, a=other))
    golden.check_protocol(file(a=BEFORE), file(kind="other", a=other))


def test_the_file_has_a_line_for_each_case(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.json")
    assert golden.read()["cases"] == {}
    values = file(a=BEFORE, b=BEFORE)
    golden.FILE.write_text(golden.text(values))
    assert golden.read() == values
    assert sum("weights" in line for line in golden.FILE.read_text().splitlines()) == 2
