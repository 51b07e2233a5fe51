"""UNTIL=decided: when a run of made-up rows goes on, and when it stops."""

from types import SimpleNamespace

import pytest
from conftest import PROJECT
from made import Made, around, claim, declared

from common.commands import run as command
from common.commands import until
from common.rows import store

SURE = {"a": around(0.95, 20), "b": around(0.85, 20)}
CLOSE = {"a": [0.95, 0.85, 0.96, 0.84, 0.9] + [0.95] * 15, "b": [0.85] * 20}
NOISY = {"a": [0.97, 0.81] * 10, "b": [0.85] * 20}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """trained(accuracies of each arm, claims) makes up rows with UNTIL=decided. Returns the numbers of seeds of each training."""

    def train(accuracies, claims, *, images=None, dry=False, statuses=None, **columns):
        made, calls = Made(tmp_path), []

        class Study:
            def __init__(self, planner, options, workers, *, arms, seeds, svg):
                self.arms, self.seeds = arms, seeds

            def run(self):
                calls.append(len(self.seeds))
                for i, arm in enumerate(self.arms if not dry else ()):
                    given = {name: values[: len(self.seeds)] for name, values in columns.items()}
                    made.add(arm, accuracies[arm][: len(self.seeds)], images=images and i, statuses=statuses, **given)
                store.write_declaration(made.files, declared(arms=made.arms, claims=claims))
                return 0

        monkeypatch.setattr(until, "Study", Study)
        experiment = SimpleNamespace(name="exp_90_made", arms=dict.fromkeys(accuracies), claims=claims, seeds=7)
        planner = SimpleNamespace(experiment=experiment, files=made.files)
        assert until.train(planner, SimpleNamespace(dry=dry), None, svg=False) == 0
        return calls

    return train


def test_a_decided_claim_ends_the_run(trained, capsys):
    assert trained(SURE, [claim()]) == [5]
    out = capsys.readouterr().out
    assert "Supported: a beats b, by at least 0.02. Test accuracy +" in out
    assert out.endswith("UNTIL=decided stops: it is supported\n")


def test_only_the_first_claim_counts(trained):
    assert trained(CLOSE, [claim(), claim("b beats a", "b", "a")]) == [5, 10]


def test_an_open_claim_goes_on_to_the_last_look(trained, capsys):
    assert trained(NOISY, [claim()]) == [5, 10, 20]
    out = capsys.readouterr().out
    assert "UNTIL=decided goes on to 10 seeds" in out
    assert out.endswith("UNTIL=decided stops: verdicts are read up to 20 seeds\n")


def test_a_claim_that_seeds_hardly_decide_ends_the_run(trained, capsys):
    same = {"a": [0.9] * 20, "b": [0.9] * 20}
    assert trained(same, [claim(margin=0.005)], images=True) == [5]  # each arm is wrong on other images
    assert capsys.readouterr().out.endswith("the chance of a verdict by 20 seeds is below 10%, whatever the truth\n")


def test_seeds_that_cannot_run_here_end_the_run(trained, capsys):
    assert trained(NOISY, [claim()], statuses=dict.fromkeys(range(7, 20), "unavailable")) == [5, 10]
    assert capsys.readouterr().out.endswith("UNTIL=decided stops: not all arms of the claim have values in 10 seeds\n")


def test_an_arm_that_cannot_run_here_ends_the_run(trained):
    assert trained(SURE, [claim(worse="c")]) == [5]


def test_without_claims_the_declared_seeds_are_trained(trained, capsys):
    assert trained(SURE, []) == [7]
    assert capsys.readouterr().out == "exp_90_made has no claim to decide: it trains its 7 seeds\n"


def test_a_dry_run_prints_the_first_seeds_alone(trained):
    assert trained(SURE, [claim()], dry=True) == [5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["UNTIL=now"], "until must be decided. Received: 'now'"),
        (["UNTIL=decided", "SEEDS=3"], "UNTIL=decided trains all arms with 5 to 20 seeds. Received: SEEDS"),
        (["UNTIL=decided", "ARMS=baseline"], "UNTIL=decided trains all arms with 5 to 20 seeds. Received: ARMS"),
        (["UNTIL=decided", "SMOKE=1"], "UNTIL=decided trains all arms with 5 to 20 seeds. Received: SMOKE"),
        (["UNTIL=decided", "DEBUG=1"], "UNTIL=decided trains all arms with 5 to 20 seeds. Received: DEBUG"),
        (["UNTIL=decided", "SWEEP=1"], "UNTIL=decided trains all arms with 5 to 20 seeds. Received: SWEEP"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(options, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        command.main([str(PROJECT / "experiments" / "exp_03_l2.py"), *options, f"RESULTS={tmp_path}"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"exp_03_l2: {message}\n"
