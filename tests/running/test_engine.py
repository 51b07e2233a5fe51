"""What the runner does with the processes of any engine, here one that follows a script and trains nothing."""

import pytest
from linear import SCRIPT
from survival import write

from common.machine import columns
from common.running import runner, scripts
from common.running.engine import Ending
from common.running.plan import Planner, Variant
from common.running.progress import Display
from common.running.workers import Workers

MEMORY = Ending("memory", "its machine had too little memory")
LOST = Ending("lost", "its machine was lost")
DIED = Ending("died", "signal SIGKILL")
FAILED = [{"event": "ready"}, {"event": "failed", "reason": "no luck"}]
ELSEWHERE = {"device": "another processor", "kind": "another kind"}


class Process:
    """A process that plays one act for each trial: events, or how it ends."""

    def __init__(self, engine, roomy):
        self.engine, self.roomy, self.act, self.jobs = engine, roomy, None, []
        self.placed, self.node, self.machine = False, engine.node, engine.machine

    def send(self, job):
        self.jobs.append(job)
        self.act = self.engine.acts.pop(0)
        return True

    def read(self):
        self.placed = True
        if isinstance(self.act, Ending):
            return None
        events, self.act = self.act or [], None
        return [dict(event) for event in events]

    def ending(self):
        return self.act

    def printed(self):
        return b"printed\n"

    def kill(self):
        pass


class Engine:
    """An engine whose processes get a machine once they have been asked for output."""

    def __init__(self, *acts, machine=None, node=""):
        self.acts, self.machine, self.node, self.on_gpus = list(acts), machine or columns(), node, False
        self.processes, self.started = [], []

    def unavailable(self, _):
        return None

    def start(self, options, *, roomy=False):
        process = Process(self, roomy)
        self.processes.append(process)
        self.started.append(process)
        return process

    def stop(self, process):
        self.processes.remove(process)

    def with_output(self, _):
        return [process for process in self.processes if process.act or not process.placed]


@pytest.fixture
def train(tmp_path):
    """train(engine) trains one trial. Returns its row."""

    def train(engine):
        experiment = scripts.read_script(write(tmp_path, SCRIPT))
        plan = Planner(experiment, experiment.select(), tmp_path / "out", one_kind=False).plan([(Variant("baseline"), 0)])
        with Workers(engine, 1) as pool, Display() as display, runner.Runner(runner.RunOptions(), pool, display) as one:
            (row,) = one.run(plan, plan.trials)
        assert engine.processes == []
        return row

    return train


def test_a_trial_that_was_killed_for_memory_is_started_once_more_with_fewer_beside_it(train):
    engine = Engine(MEMORY, FAILED)
    assert train(engine)["reason"].startswith("no luck; log: ")
    assert [process.roomy for process in engine.started] == [False, True]


def test_a_trial_that_is_killed_for_memory_twice_fails(train):
    row = train(Engine(MEMORY, MEMORY))
    assert (row["status"], row["reason"]) == ("failed", "its worker died 2 times (its machine had too little memory)")


def test_lost_machines_cost_a_trial_more_retries_than_deaths_of_its_process(train, capsys):
    assert train(Engine(LOST, LOST, DIED, LOST, LOST, FAILED))["reason"].startswith("no luck")
    assert capsys.readouterr().out.count("its worker died (its machine was lost); starting it once more") == 4
    assert train(Engine(*[LOST] * 5))["reason"] == "its worker died 5 times (its machine was lost)"
    assert train(Engine(LOST, DIED, DIED))["reason"] == "its worker died 2 times (signal SIGKILL)"


def test_a_row_says_on_what_kind_of_machine_it_was_trained(train):
    """And the folder of its checkpoints depends on that."""
    here, there = Engine(FAILED), Engine(FAILED, machine=ELSEWHERE)
    train(here)
    train(there)
    (job,) = there.started[0].jobs
    assert {name: job.row[name] for name in ELSEWHERE} == ELSEWHERE
    assert job.folder.name != here.started[0].jobs[0].folder.name
