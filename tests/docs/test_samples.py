"""Every Python sample in README and docs is run; README's is part of experiment 03."""

import ast
import math

import pandas as pd
import pytest
import tensorflow as tf
from conftest import PROJECT
from matplotlib.figure import Figure
from pages import blocks
from trials import trained

from common.figures.draw import Material
from common.rows import schema
from common.rows.table import Table
from common.running.plan import Planner, Variant
from common.running.scripts import read_script
from common.training.adapters import per_example

SAMPLES = [block for block in blocks("python") if block.page != "README.md"]
DECLARED = """
from common.experiment import Experiment, Setting

experiment = Experiment(train, arms={{"baseline": {arguments}}}, setting=Setting("digits", epochs=20, train_size=300))
"""
"""What makes an experiment of a `train` alone."""


def sample(words):
    """The one sample that has these words in it."""
    (block,) = [block for block in SAMPLES if words in block.text]
    return block.text


def ran(text, name="sample"):
    """The names that a sample leaves, run as a module from the project's folder."""
    names = {"__name__": name, "__file__": str(PROJECT / "experiments" / f"{name}.py")}
    exec(compile(text, name, "exec"), names)
    return names


def row_of(text, tmp_path, arm="baseline", epochs=1):
    """The row of one arm of a script, trained on 256 digits."""
    path = tmp_path / "exp_40_hidden_layer.py"
    path.write_text(text, encoding="utf-8")
    experiment = read_script(path)
    planner = Planner(experiment, experiment.select("quick", {"epochs": epochs, "train_size": 256}), tmp_path)
    values = {name: entry.default for name, entry in experiment.searched_by(arm).items()}
    plan = planner.plan([(Variant(arm, values=values), 0)])
    (trial,) = plan.trials
    return trained(plan, trial).row


@pytest.mark.parametrize("text", [block.text for block in SAMPLES], ids=[block.page for block in SAMPLES])
def test_a_sample_runs(text, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert ran(text)


@pytest.mark.slow
def test_the_experiment_in_docs_trains(tmp_path):
    text = sample('"""Exp 40')
    row = row_of(text, tmp_path, arm="32 units")
    assert row["status"] == "done"
    assert math.isfinite(row["test_accuracy"])
    assert read_script(tmp_path / "exp_40_hidden_layer.py").question.endswith("?")


@pytest.mark.slow
def test_the_step_in_docs_trains(tmp_path):
    text = sample("def step(") + DECLARED.format(arguments={"weight": 0.5, "learning_rate": 0.02})
    row = row_of(text, tmp_path, epochs=10)
    assert (row["status"], row["trained"]) == ("done", True)


def test_the_loss_in_docs_is_its_formula():
    loss = ran(sample("def poly_cross_entropy"))["poly_cross_entropy"]
    targets, logits = tf.constant([[1.0, 0.0]]), tf.constant([[0.0, math.log(3)]])  # p = 1/4
    assert per_example(loss)(targets, logits).numpy() == pytest.approx([math.log(4) + 0.75], rel=1e-5)


def test_the_augmentation_in_docs_darkens():
    dimmed = ran(sample("def dimmed"))["dimmed"]
    images, _ = dimmed(tf.ones((2, 1, 1, 1)), None, tf.constant([[0.0] * 8, [0.5] * 8]))
    assert images.numpy().ravel().tolist() == [1.0, 0.75]


def test_the_figure_in_docs_is_drawn():
    kind = ran(sample("def gaps"))["kind"]
    material = Material(Table.read(schema.Files(schema.REFERENCE / "small-cifar10", "exp_03_l2")))
    assert kind.applies(material)
    assert isinstance(kind.draw(material), Figure)


def test_the_notebook_in_docs_reads_published_rows(monkeypatch):
    monkeypatch.chdir(PROJECT)
    rows = ran(sample("store.read"))["rows"]
    assert isinstance(rows, pd.DataFrame)
    assert "exp_03_l2" in set(rows.experiment)


def test_readmes_sample_is_experiment_03_without_docstring_imports_and_last_lines():
    (block,) = [block for block in blocks("python") if block.page == "README.md"]
    script = ast.parse((PROJECT / "experiments" / "exp_03_l2.py").read_text(encoding="utf-8"))
    _, *statements, _ = [statement for statement in script.body if not isinstance(statement, ast.Import | ast.ImportFrom)]
    assert ast.dump(ast.parse(block.text)) == ast.dump(ast.Module(statements, type_ignores=[]))
    assert [statement.name for statement in statements if isinstance(statement, ast.FunctionDef)] == ["train"]


def test_there_are_samples():
    assert len(SAMPLES) >= 6
