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
results = next(word for word in sys.argv if word.startswith("RESULTS="))
folder = pathlib.Path(results.removeprefix("RESULTS=")) / "quick-digits"
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
    """write(number, body) writes a script that replaces an experiment; run(*options) starts `make all`."""
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


def test_all_continues_after_a_failed_experiment_and_reports_each(catalogue, tmp_path):
    write, run = catalogue
    write("01", WORKS)
    write("02", "print('no space left: free some', file=sys.stderr); sys.exit(1)")
    write("03", WORKS)
    process = run()
    out, err = process.communicate(timeout=60)
    lines = out.splitlines()
    assert lines[0].startswith("[1/3] exp_01_x: 1 done, 1 diverged, ")
    assert lines[1].startswith("[2/3] exp_02_x: failed: no space left: free some (log: ")
    assert lines[2].startswith("[3/3] exp_03_x: 1 done, 1 diverged, ")
    assert lines[3].startswith("2 of 3 experiments done in ")
    assert err == "one experiment failed (exp_02_x): the same command runs them again\n"
    assert process.returncode == 1
    assert "no space left" in (tmp_path / "out" / "logs" / "exp_02_x.log").read_text()


def test_options_are_passed_to_every_experiment_and_arms_are_refused(catalogue, tmp_path):
    write, run = catalogue
    write("01", WORKS + "(folder / 'options').write_text(' '.join(sys.argv[1:]))")
    assert run("--seeds", "3").wait(timeout=60) == 0
    assert (tmp_path / "out" / "quick-digits" / "options").read_text() == f"SEEDS=3 RESULTS={tmp_path / 'out'}"
    process = run("--arms", "a")
    assert "ARMS is an option of a single experiment" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


def test_a_dry_run_shows_each_plan_although_there_are_rows(catalogue):
    write, run = catalogue
    write("01", WORKS + 'print("3 search trials to run, then at most 35")')
    out, err = run("--dry").communicate(timeout=60)
    planned, last = out.splitlines()
    assert planned.startswith("[1/1] exp_01_x: 3 search trials to run, then at most 35, ")
    assert (last.startswith("1 of 1 experiments planned in "), err) == (True, "")


def test_the_experiments_in_exp_run_in_that_order(catalogue):
    write, run = catalogue
    for number in ("01", "02", "03"):
        write(number, WORKS)
    out, err = run("EXP=03,1", "--seeds", "2").communicate(timeout=60)
    *done, last = out.splitlines()
    assert [line.partition(":")[0] for line in done] == ["[1/2] exp_03_x", "[2/2] exp_01_x"]
    assert (last.startswith("2 of 2 experiments done in "), err) == (True, "")
    for wrong, message in (
        ("03,77", "experiment must be one of 01 02 03. Received: 77"),
        ("03,3", "EXP=00,03,09. Received: 03,3"),
    ):
        process = run(f"EXP={wrong}")
        err = process.communicate(timeout=60)[1]
        assert (process.returncode, err.count("\n")) == (2, 1)
        assert message in err


REFUSES = "print('exp_{number}_x: {message}. Received: x', file=sys.stderr); sys.exit(2)"


def test_an_option_that_the_first_two_experiments_refuse_ends_the_run(catalogue):
    write, run = catalogue
    for number in ("01", "02", "03"):
        write(number, REFUSES.format(number=number, message="dataset must be one of these"))
    out, err = (process := run("--dataset", "nowhere")).communicate(timeout=60)
    assert (process.returncode, err) == (2, "dataset must be one of these. Received: x\n")
    assert out.count("\n") == 1  # about the first


def test_the_others_continue_if_one_experiment_refuses_an_option(catalogue):
    write, run = catalogue
    write("01", REFUSES.format(number="01", message="classes must be between 0 and 2"))
    write("02", WORKS)
    out, err = (process := run("--dataset", "pets")).communicate(timeout=60)
    assert (process.returncode, err) == (1, "one experiment failed (exp_01_x): the same command runs them again\n")
    assert "[2/2] exp_02_x: 1 done" in out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_also_stops_the_running_experiment(catalogue, tmp_path, sent):
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
    assert (process.returncode, err) == (130, "stopped; the same command resumes after the last finished epoch\n")
    pid = (tmp_path / "out" / "quick-digits" / "pid").read_text()
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_the_line_of_progress_shows_experiment_trial_and_time_left(monkeypatch):
    monkeypatch.setattr(all_command, "weights", lambda *_: [30.0, 10.0])
    progress = all_command.Progress(["exp_01_x", "exp_02_y"], "quick", all_command.Display())
    monkeypatch.setattr(all_command.time, "perf_counter", lambda: progress.started + 60)
    assert progress.line(0, 0, 0) == "experiment 1 of 2, exp_01_x; 60 s"
    # 15 of 40 done within a minute leave 25 / 15 minutes.
    assert progress.line(1, 0, 4) == "experiment 2 of 2, exp_02_y, trial 0 of 4; 60 s"
    assert progress.line(0, 5, 10) == "experiment 1 of 2, exp_01_x, trial 5 of 10; 60 s, about 2 min left"


def test_rate_leaves_out_experiments_that_search_no_learning_rate(capsys):
    assert all_command.searching_rates(["exp_01_baseline_cnn", "exp_03_l2"]) == ["exp_03_l2"]
    assert capsys.readouterr().out == "left out, as they search no learning rate that RATE could replace: exp_01_baseline_cnn\n"
    with pytest.raises(Misuse, match="Received: experiments that search none .exp_01_baseline_cnn."):
        all_command.searching_rates(["exp_01_baseline_cnn"])


def test_all_hands_until_and_the_engine_on_to_each_experiment(monkeypatch, tmp_path):
    handed = []
    monkeypatch.setattr(all_command, "run", lambda names, options, folder, setting: handed.append(options) or 0)
    monkeypatch.setattr(sys, "argv", ["all", "UNTIL=decided", "ENGINE=ray", "SAME_DEVICE=0", "EXP=03", f"RESULTS={tmp_path}"])
    assert all_command.main() == 0
    assert {"UNTIL=decided", "ENGINE=ray", "SAME_DEVICE=0"} <= set(handed[0])
