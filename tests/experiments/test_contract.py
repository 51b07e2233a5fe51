"""Rules that every script in experiments/ keeps, also new ones."""

import ast
import inspect
import json
import re
import subprocess
import sys

import keras
import pytest
from conftest import PROJECT

from common import optimizers
from common.data.dataset import NAMES
from common.files import experiment_scripts
from common.running import scripts
from common.setting import FIELDS
from common.training.execution import load_script

SCRIPTS = experiment_scripts()
PUBLISHED = "01"
"""The experiment whose networks are trained as published, at the published learning rates."""
ABOUT_RATES = ("09", "10")
"""The experiments that compare learning rates, which their arms therefore set."""
EACH = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


def test_numbers_are_unique_and_in_the_names():
    numbers = [re.fullmatch(r"exp_(\d\d)_[a-z0-9_]+", path.stem).group(1) for path in SCRIPTS]
    assert len(set(numbers)) == len(numbers) >= 4


@EACH
def test_the_docstring_has_question_varies_fixed_and_expect(path):
    doc = load_script(str(path)).doc
    first, *rest = doc.splitlines()
    assert re.fullmatch(rf"Exp {path.stem[4:6]}: .*\?", first)
    for label in ("Varies", "Fixed", "Expect"):
        assert sum(line.startswith(f"{label}  ") for line in rest) == 1, label


@pytest.fixture(scope="module")
def read():
    """Name -> declaration of each script as read in a process without Keras; in this one the parts of scripts are imported."""
    code = (
        "import json; from common.files import experiment_scripts; from common.running.scripts import read_script\n"
        "read = [read_script(path) for path in experiment_scripts()]\n"
        "print(json.dumps({one.name: one.declare(one.select()) for one in read}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@EACH
def test_the_declaration_is_the_same_with_and_without_keras(path, read):
    real = load_script(str(path))
    assert json.loads(json.dumps(real.declare(real.select()))) == read[path.stem]


@EACH
def test_arms_bind_and_differ(path):
    experiment = load_script(str(path))  # raises where an arm or a claim does not fit
    arms = [(repr(arm), experiment.tuner.get(name), repr(experiment.search.get(name))) for name, arm in experiment.arms.items()]
    assert len(set(arms)) == len(arms)
    parameters = list(inspect.signature(experiment.train).parameters)
    assert parameters[0] == "trial"
    assert not set(parameters) & set(FIELDS)


@EACH
def test_ids_of_claims_are_unique_and_well_formed(path):
    ids = [claim.id for claim in load_script(str(path)).claims]
    assert len(set(ids)) == len(ids)
    assert all(len(one) <= 24 and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one) for one in ids)


@EACH
def test_settings_and_claims_are_about_known_datasets(path):
    """A misspelt name is taken for a folder of images, and a claim about it would never count."""
    experiment = load_script(str(path))
    of_claims = [name for claim in experiment.claims for name in claim.datasets]
    assert {*(setting.dataset for setting in experiment.settings.values()), *of_claims} <= set(NAMES)


@EACH
def test_an_experiment_loads_no_data_and_imports_no_other(path):
    tree = ast.parse(path.read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = [name for node in froms for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in imported if name.startswith("experiments")]
    assert not {"common.data.dataset", "common.data.sources", "tensorflow_datasets"} & set(imported)
    assert "load" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not {"load", "test"} & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@EACH
def test_train_writes_no_epochs_steps_or_batch_size(path):
    function = next(n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == "train")
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        literal = [k.arg for k in call.keywords if k.arg in ("epochs", "batch_size") and isinstance(k.value, ast.Constant)]
        assert not literal


def rates_in(tree):
    """The expressions passed as learning rates to optimizers, schedules and pretraining."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if ast.unparse(call.func).startswith("getattr(optimizers, ") or isinstance(getattr(keras.optimizers, name, None), type):
            yield from call.args[:1]
        elif name == "pretrained":
            yield from call.args[2:3]
        elif hasattr(optimizers, name) and name not in ("decay_kernels_alone", "clipping"):
            yield from call.args[1:2] if name in ("sgd", "falling", "named") else call.args[:1]
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "learning_rate")


def is_searched(rate):
    """Whether an expression is a variable named as a rate, possibly scaled, and no number."""
    if isinstance(rate, ast.Call):  # of a schedule, whose rate is checked too, or of a space
        return True
    if isinstance(rate, ast.BinOp) and isinstance(rate.op, ast.Mult | ast.Div):
        return is_searched(rate.left) or is_searched(rate.right)
    if isinstance(rate, ast.BoolOp):
        return all(map(is_searched, rate.values))
    if isinstance(rate, ast.IfExp):
        return is_searched(rate.body) and is_searched(rate.orelse)
    return isinstance(rate, ast.Name) and rate.id.lower().removesuffix("s").endswith("rate") and rate.id != rate.id.upper()


@EACH
def test_no_learning_rate_is_a_literal(path):
    number, tree = path.stem[4:6], ast.parse(path.read_text())
    train = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    literals = [ast.unparse(rate) for function in train for rate in rates_in(function) if not is_searched(rate)]
    assert number == PUBLISHED or not literals


@EACH
def test_every_network_has_a_rate_that_is_searched(path):
    experiment, number = scripts.read_script(path), path.stem[4:6]
    for arm, fields in experiment.arms.items():
        if fields.get("kind") in ("hog", "pixels") or number == PUBLISHED:
            continue  # no network
        assert ("learning_rate" in fields) <= (number in ABOUT_RATES)
        assert "learning_rate" in fields or "learning_rate" in experiment.searched_by(arm), arm


@pytest.mark.parametrize(
    "text",
    [
        "optimizers.SGD(0.05, momentum=0.9)",
        "sgd(trial, 0.1)",
        "named(optimizer, 0.1)",
        "SGD(learning_rate=1)",
        "SGD(CALM)",
        "SGD(RATE)",
        "getattr(optimizers, 'Adam')(1e-3)",
        "SGD(2 * 0.05)",
        "sgd(trial, 0.1 if x else 0.2)",
        "falling(trial, tuning_rate or 1e-3)",
        "transfer.pretrained(trial, build, 0.001)",
    ],
)
def test_a_literal_rate_is_recognised(text):
    (rate,) = rates_in(ast.parse(text))
    assert not is_searched(rate)


@pytest.mark.parametrize(
    "text",
    ["sgd(trial, learning_rate)", "SGD(10 * learning_rate)", "Adam(falling(trial, tuning_rate or learning_rate))", "SGD(rate)"],
)
def test_a_searched_rate_is_recognised(text):
    rates = list(rates_in(ast.parse(text)))
    assert rates and all(map(is_searched, rates))
