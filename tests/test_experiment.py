import os
import subprocess
import sys

import pytest
from conftest import PROJECT

from common import tasks
from common.claims import less, overfits_less
from common.errors import Misuse
from common.experiment import Claim, Experiment, Setting

SETTING = Setting("cifar10", epochs=20, batch_size=128)
QUICK = Setting("digits", epochs=20, batch_size=32, train_size=300)


def train(trial, *, l2=0.0):
    """Never run."""


def experiment(**options):
    return Experiment(train, **{"arms": {"baseline": {}, "b": {"l2": 1.0}}, "setting": SETTING, "quick": QUICK, **options})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1. Received: 0"),
        ({"epochs": 1.5}, "Received: 1.5"),
        ({"batch_size": -3}, "batch_size must .* Received: -3"),
        ({"train_size": 0}, "train_size must .* Received: 0"),
        ({"colour": "blue"}, "Received: 'blue'"),
        ({"precision": "half"}, "Received: 'half'"),
        ({"vary": ("shuffle",)}, "Received: 'shuffle'"),
        ({"imbalance": 0.5}, "imbalance must be at least 1. Received: 0.5"),
        ({"label_noise": 1.0}, "label_noise must lie between 0 and 1. Received: 1.0"),
        ({"classes": (3,)}, "at least two different ones"),
        ({"xla": True}, "xla needs deterministic=False"),
    ],
)
def test_an_impossible_setting_is_named(changes, said):
    with pytest.raises(Misuse, match=said):
        SETTING.replace(**changes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arms": {"first": {}}}, "first arm must be 'baseline'"),
        ({"arms": {"baseline": {"l3": 1}}}, "arm 'baseline' does not fit train"),
        ({"arms": {"baseline": {"l2": object()}}}, "plain values"),
        ({"arms": {"baseline": {"epochs": 0}}}, "epochs must be"),
        ({"arms": {"baseline": {}, "a b": {}, "a_b": {}}}, "differ in more than punctuation"),
        ({"arms": {"baseline": {}, "None": {}}}, "read as missing"),
        ({"arms": {"baseline": {}, "16": {}}}, "must not be a number"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"claims": [Claim("x", id="x", better="c", worse="baseline", margin=0.1)]}, "names an arm that is not there: 'c'"),
        (
            {"claims": [Claim(text, id="helps", better="b", worse="baseline", margin=0.1) for text in ("it helps", "it does")]},
            "each claim must have an id of its own. Received twice: 'helps'",
        ),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(options, said):
    with pytest.raises(Misuse, match=said):
        experiment(**options)


def test_a_name_is_an_argument_or_a_field_not_both():
    def both(trial, *, epochs):
        """Never run."""

    with pytest.raises(Misuse, match="'epochs' is a field of Setting"):
        Experiment(both, arms={"baseline": {}}, setting=SETTING)


def test_arms_set_arguments_and_fields_and_the_user_overrides_both():
    one = experiment(arms={"baseline": {}, "small": {"batch_size": 8, "l2": 0.5}})
    assert one.arguments("small") == {"l2": 0.5}
    assert one.arm_setting("small", SETTING).batch_size == 8
    assert one.arm_setting("small", SETTING.replace(batch_size=4), ["batch_size"]).batch_size == 4


def test_an_arm_that_trains_longer_does_so_under_other_epochs_too():
    one = experiment(arms={"baseline": {}, "longer": {"epochs": 60}})  # of 20
    assert [one.arm_setting("longer", SETTING.replace(epochs=n), ["epochs"]).epochs for n in (20, 2, 5)] == [60, 6, 15]
    assert one.arm_setting("baseline", SETTING.replace(epochs=2), ["epochs"]).epochs == 2


@pytest.mark.parametrize(
    ("setting", "overridden", "name"),
    [
        (QUICK, (), "digits"),
        (SETTING, (), "cifar10"),
        (SETTING.replace(epochs=5, train_size=10000), ("epochs", "train_size"), "cifar10-epochs=5-train=10000"),
        (QUICK.replace(dataset="mnist"), ("dataset",), "mnist-batch=32-train=300"),
        (SETTING.replace(dataset="mnist"), ("dataset",), "mnist"),
        (QUICK.replace(epochs=3), ("epochs",), "digits-epochs=3"),
    ],
)
def test_a_settings_folder_tells_what_differs_from_the_declared_one(setting, overridden, name):
    assert experiment().folder_name(setting, overridden) == name


def test_an_override_of_what_arms_set_themselves_is_in_the_folders_name():
    one = experiment(arms={"baseline": {}, "long": {"epochs": 40}})
    assert one.folder_name(QUICK, ["epochs"]) == "digits-epochs=20"


def test_claims_infer_their_kind_and_check_their_arms():
    assert Claim("x", id="x", better="a", worse="b", margin=0.1).kind == "superiority"
    assert Claim("x", id="x", better=["a", "c"], worse="b", margin=0.1).kind == "best of family"
    (claim,) = experiment(claims=[Claim("x", id="x", better="b", worse="baseline", margin=0.1)]).claims
    assert claim.datasets == ("cifar10",)
    for wrong in ({"margin": 0}, {"kind": "better"}, {"kind": "interaction"}, {"kind": "same", "better": ["a", "c"]}):
        with pytest.raises(Misuse):
            Claim(**{"text": "x", "id": "x", "better": "a", "worse": "b", "margin": 0.1, **wrong})


@pytest.mark.parametrize("wrong", ["", "L2-helps", "l2_helps", "l2 helps", "-l2", "l2-", "l2--helps", "x" * 25, None, 3])
def test_a_malformed_id_of_a_claim_is_named(wrong):
    with pytest.raises(Misuse, match=f"at most 24 lower case letters, digits and hyphens .* Received: {wrong!r}"):
        Claim("x", id=wrong, better="a", worse="b", margin=0.1)


def test_claims_made_by_helpers_have_ids_too():
    assert less("a has less", "a", "b", "seconds", 0.1, id="a-less").id == "a-less"
    assert [claim.id for claim in overfits_less("a", "b", id="a")] == ["a-gap", "a-accuracy"]


def test_an_experiment_may_name_more_kinds_of_figures():
    assert experiment(figures=["mistakes"]).declare(QUICK)["figures"] == ["mistakes"]
    assert experiment().declare(QUICK)["figures"] == []
    with pytest.raises(Misuse, match="figures must be among steps, mistakes. Received: 'pie'"):
        experiment(figures=["pie"])


def test_a_claim_is_about_the_tasks_primary_metric():
    claim = Claim("b is better", id="b-better", better="b", worse="baseline", margin=1.0)
    (of_classes,), (of_angles,) = (experiment(claims=[claim], task=task).claims for task in (tasks.classification, tasks.rotated))
    assert (of_classes.metric, of_classes.lower_is_better) == ("test_accuracy", False)
    assert (of_angles.metric, of_angles.lower_is_better) == ("test_error", True)
    declared = experiment(task=tasks.rotated).declare(SETTING)
    assert declared["task"]["metric"] == "error"
    assert declared["task"]["lower_is_better"] is True


@pytest.mark.parametrize("started", [["-m", "experiments.exp_03_l2"], [str(PROJECT / "experiments" / "exp_03_l2.py")]])
def test_a_script_runs_by_itself_from_anywhere(tmp_path, started):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *started, "--dry", "--seeds", "2", "--results", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "10 of 10 trials to run" in done.stdout
    assert (tmp_path / "out").is_dir()  # below the caller's folder
