import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT

from common.commands import all as all_command
from common.errors import Misuse

SCRIPT = '''"""Exp {number}: what does experiment {number} say?"""
import pathlib, sys, time
folder = pathlib.Path(sys.argv[-1].removeprefix("RESULTS=")) / "quick-digits"
folder.mkdir(parents=True, exist_ok=True)
rows = folder / "exp_{number}_x.csv"
{body}
'''
WORKS = """
print(f"digits: epochs 1; rows in {rows}")
print("[1/1] baseline seed 0: done")
rows.write_text("experiment,arm,seed,status,test_accuracy\\nexp,baseline,0,done,0.5\\nexp,other,0,diverged,0.1\\n")
"""


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """Three scripts in the place of the experiments; `run` is one call of `make all`."""
    (tmp_path / "experiments").mkdir()

    def write(number, body):
        (tmp_path / "experiments" / f"exp_{number}_x.py").write_text(SCRIPT.format(number=number, body=body))

    def run(*options, **kwargs):
        command = [sys.executable, "-c", BOOT, str(tmp_path), *options, "--results", str(tmp_path / "out")]
        return subprocess.Popen(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

    return write, run


BOOT = """
import pathlib, sys
folder = pathlib.Path(sys.argv.pop(1)) / "experiments"
from common.commands import all as all_command, parsing, run
scripts = lambda: sorted(folder.glob("exp_*.py"))
all_command.experiment_scripts = run.experiment_scripts = scripts
all_command.command = lambda name, options: [sys.executable, str(folder / f"{name}.py"), *options]
parsing.end(all_command.main)
"""


def test_all_goes_on_past_a_failing_experiment_and_says_what_became_of_each(catalogue, tmp_path):
    write, run = catalogue
    write("01", WORKS)
    write("02", "print('no space left: free some', file=sys.stderr); sys.exit(1)")
    write("03", WORKS)
    process = run()
    out, err = process.communicate(timeout=60)
    lines = out.splitlines()
    assert lines[0].startswith("[1/3] exp_01_x: 1 done, 1 diverged, ")
    assert lines[1].startswith("[2/3] exp_02_x: failed: no space left: free some (more in ")
    assert lines[2].startswith("[3/3] exp_03_x: 1 done, 1 diverged, ")
    assert lines[3].startswith("2 of 3 experiments done in ")
    assert err == "one experiment failed (exp_02_x): the same command tries them again\n"
    assert process.returncode == 1
    assert "no space left" in (tmp_path / "out" / "logs" / "exp_02_x.log").read_text()


def test_options_reach_every_experiment_and_arms_are_refused(catalogue, tmp_path):
    write, run = catalogue
    write("01", WORKS + "(folder / 'given').write_text(' '.join(sys.argv[1:]))")
    assert run("--seeds", "3").wait(timeout=60) == 0
    assert (tmp_path / "out" / "quick-digits" / "given").read_text() == f"SEEDS=3 RESULTS={tmp_path / 'out'}"
    process = run("--arms", "a")
    assert "arms belong to one experiment" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


def test_some_experiments_run_in_the_order_named(catalogue):
    write, run = catalogue
    for number in ("01", "02", "03"):
        write(number, WORKS)
    out, err = run("EXP=03,1", "--seeds", "2").communicate(timeout=60)
    *done, last = out.splitlines()
    assert [line.partition(":")[0] for line in done] == ["[1/2] exp_03_x", "[2/2] exp_01_x"]
    assert (last.startswith("2 of 2 experiments done in "), err) == (True, "")
    for wrong, said in (
        ("03,77", "experiment must be one of 01 02 03. Received: 77"),
        ("03,3", "EXP=00,03,09. Received: 03,3"),
    ):
        process = run(f"EXP={wrong}")
        err = process.communicate(timeout=60)[1]
        assert (process.returncode, err.count("\n")) == (2, 1)
        assert said in err


REFUSES = "print('exp_{number}_x: {said}. Received: x', file=sys.stderr); sys.exit(2)"


def test_what_two_experiments_refuse_alike_ends_the_call(catalogue):
    write, run = catalogue
    for number in ("01", "02", "03"):
        write(number, REFUSES.format(number=number, said="dataset must be one of these"))
    out, err = (process := run("--dataset", "nowhere")).communicate(timeout=60)
    assert (process.returncode, err) == (2, "dataset must be one of these. Received: x\n")
    assert out.count("\n") == 1  # of the first


def test_what_one_experiment_refuses_does_not_stop_the_others(catalogue):
    write, run = catalogue
    write("01", REFUSES.format(number="01", said="classes must lie between 0 and 2"))
    write("02", WORKS)
    out, err = (process := run("--dataset", "pets")).communicate(timeout=60)
    assert (process.returncode, err) == (1, "one experiment failed (exp_01_x): the same command tries them again\n")
    assert "[2/2] exp_02_x: 1 done" in out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_call_stops_its_experiment(catalogue, tmp_path, sent):
    write, run = catalogue
    write(
        "01",
        "import os; (folder / 'pid').write_text(str(os.getpid()))\ntry: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(130)",
    )
    process = run()
    limit = time.perf_counter() + 30
    while not (tmp_path / "out" / "quick-digits" / "pid").exists():
        assert time.perf_counter() < limit
        time.sleep(0.1)
    process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "stopped; the same command goes on from the last finished epochs\n")
    pid = (tmp_path / "out" / "quick-digits" / "pid").read_text()
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_the_line_tells_where_the_catalogue_is(monkeypatch):
    monkeypatch.setattr(all_command, "weights", lambda *_: [30.0, 10.0])
    progress = all_command.Progress(["exp_01_x", "exp_02_y"], "quick", all_command.Display())
    monkeypatch.setattr(all_command.time, "perf_counter", lambda: progress.started + 60)
    assert progress.line(0, 0, 0) == "experiment 1 of 2, exp_01_x; 60 s"
    # 30 of 40 done within a minute leave a third of it.
    assert progress.line(1, 0, 4) == "experiment 2 of 2, exp_02_y, trial 0 of 4; 60 s"
    assert progress.line(0, 5, 10) == "experiment 1 of 2, exp_01_x, trial 5 of 10; 60 s, about 2 min left"


def test_a_rate_leaves_out_experiments_that_search_none(capsys):
    assert all_command.searching_rates(["exp_01_baseline_cnn", "exp_03_l2"]) == ["exp_03_l2"]
    assert capsys.readouterr().out == "left out, as they search no learning rate that RATE could replace: exp_01_baseline_cnn\n"
    with pytest.raises(Misuse, match="Received: experiments that search none .exp_01_baseline_cnn."):
        all_command.searching_rates(["exp_01_baseline_cnn"])
