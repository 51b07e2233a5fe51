import hashlib
import json
import os
import shlex
import subprocess
import sys

import pytest
from conftest import PROJECT

from common.commands import options, parsing
from common.commands import run as command
from common.data.dataset import NAMES, Dataset
from common.experiment import PRECISIONS
from common.rows import schema, store
from common.running import fingerprint, plan, scripts
from common.running.runner import STALL_SECONDS

SCRIPT = PROJECT / "experiments" / "exp_03_l2.py"


@pytest.fixture(scope="module")
def experiment():
    return scripts.declared(SCRIPT)


def run(experiment, capsys, *arguments):
    """Status, standard output and standard error of the command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        command.main([str(experiment.path), *map(str, arguments)])
    return ended.value.code, *capsys.readouterr()


CASES = {
    "unknown option": (["--epoch", "3"], "--epoch"),
    "unknown arm": (["--arms", "baseline,l2=7"], "'l2=7'"),
    "no arm": (["--arms", ""], "at least one arm"),
    "unknown dataset": (["--dataset", "cifar11"], "'cifar11'"),
    "missing folder": (["--dataset", "./no_such_folder"], "./no_such_folder"),
    "epochs 0": (["--epochs", "0"], "Received: 0"),
    "epochs a word": (["--epochs", "many"], "Received: many"),
    "epochs a fraction": (["--epochs", "1.5"], "Received: 1.5"),
    "seeds -1": (["--seeds", "-1"], "Received: -1"),
    "seeds 0": (["--seeds", "0"], "Received: 0"),
    "jobs 0": (["--jobs", "0"], "Received: 0"),
    "threads 0": (["--threads", "0"], "Received: 0"),
    "batch larger than the data": (["--batch", "500"], "Received: 500"),
    "train larger than the data": (["--train", "2000"], "at most 1150"),
    "train 0": (["--train", "0"], "Received: 0"),
    "size 0": (["--size", "0"], "Received: 0"),
    "colour": (["--colour", "blue"], "'blue'"),
    "precision": (["--precision", "float8"], "'float8'"),
    "checkpoint steps": (["--checkpoint-steps", "0"], "Received: 0"),
    "results a file": (["--results", str(SCRIPT)], str(SCRIPT)),
    "results below a file": (["--results", str(SCRIPT / "deeper")], "cannot be written"),
}


@pytest.mark.parametrize(("arguments", "said"), CASES.values(), ids=CASES.keys())
def test_misuse_is_one_line_on_stderr_and_status_2(experiment, capsys, tmp_path, arguments, said):
    if "--results" not in arguments:
        arguments = [*arguments, "--results", tmp_path]
    status, out, err = run(experiment, capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_an_unreadable_image_is_one_line_and_status_2(experiment, capsys, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(b"no image")
    status, _, err = run(experiment, capsys, "--dataset", tmp_path / "pets", "--results", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert "unreadable image" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_results_folder_is_one_line_and_status_2(experiment, capsys, tmp_path):
    tmp_path.chmod(0o500)
    status, _, err = run(experiment, capsys, "--results", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)


def test_the_command_line_is_checked_before_tensorflow_is_imported():
    code = (
        "import sys; sys.argv = ['-m', '03', '--epochs', '0']\n"
        "import runpy, atexit\n"
        "atexit.register(lambda: print(sorted({'tensorflow', 'sklearn', 'pandas'} & set(sys.modules))))\n"
        "runpy.run_module('common.commands.run', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (2, "[]"), done.stderr


def test_dry_shows_trials_time_disk_and_setting_and_writes_nothing(experiment, capsys, tmp_path, digits):
    status, out, err = run(experiment, capsys, "--dry", "--results", tmp_path, "--seeds", 2, "--arms", "baseline,l2=1e-4")
    assert (status, err) == (0, "")
    assert "4 of 4 trials to run, about" in out
    assert "of disk" in out
    assert "epochs 20, batch_size 32, train_size 300" in out
    assert list(tmp_path.iterdir()) == []


def test_make_and_python_mean_the_same():
    words = "ARMS=a SEEDS=1 DATASET=d EPOCHS=2 BATCH=3 TRAIN=4 SIZE=5 COLOUR=grey PRECISION=p THREADS=6 JOBS=7 RESULTS=r "
    words += "CHECKPOINT_STEPS=8 REPLICAS=2 TRIALS_PER_GPU=3 STALL_SECONDS=9 FULL=1 SMOKE=1 KEEP=1 DRY=1 "
    words += "TUNER=t TRIALS=10 SWEEPS=11"
    done = subprocess.run(["make", "-n", "-o", "setup", "sweep-03", *words.split()], cwd=PROJECT, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if "common.commands.run" in line)
    number, *handed_on = shlex.split(line)[4:]
    assert number == "03"
    values = {
        **{"arms": "a", "seeds": 1, "dataset": "d", "epochs": 2, "batch": 3, "train": 4, "size": 5, "colour": "grey"},
        **{"precision": "p", "threads": 6, "jobs": 7, "results": "r", "checkpoint_steps": 8, "replicas": 2},
        **{"trials_per_gpu": 3, "stall_seconds": 9, "tuner": "t", "trials": 10, "sweeps": 11},
        **dict.fromkeys(("full", "smoke", "keep", "dry", "sweep"), True),
    }
    assert vars(parsing.parse(options.STUDY, handed_on)) == values
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in values.items()]
    assert vars(parsing.parse(options.STUDY, flags)) == values
    assert set(values) == set(options.STUDY)


def test_make_hands_values_on_as_they_are():
    arms = "it's a b=1,l2=1e-4"
    command = ["make", "-n", "-o", "setup", "exp-03", f"ARMS={arms}", "FULL=0", "DRY="]
    environment = {**os.environ, "SEEDS": "3"}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=environment)
    given = parsing.parse(options.STUDY, shlex.split(done.stdout.splitlines()[-1])[5:])
    assert (given.arms, given.full, given.dry) == (arms, False, False)
    assert given.seeds is None  # the environment sets no option


def test_arms_with_commas_in_their_names_can_be_chosen(experiment):
    class Named:
        arms = {"baseline": {}, "a": {}, "a,b": {}}  # noqa: RUF012

    assert command._chosen_arms(Named, "a,b,baseline") == ["baseline", "a,b"]
    assert command._chosen_arms(experiment, "l2=1e-4,baseline") == ["baseline", "l2=1e-4"]


# --- plans ---


def make(experiment, tmp_path, setting=None, **options):
    arms, seeds = options.pop("arms", list(experiment.arms)), options.pop("seeds", range(2))
    trials = [(plan.Variant(arm), seed) for seed in seeds for arm in arms]
    return plan.Planner(experiment, setting or experiment.quick, tmp_path, **options).plan(trials)


def test_trials_run_seed_by_seed_with_the_arms_interleaved(experiment, tmp_path, digits):
    trials = make(experiment, tmp_path, arms=["baseline", "l2=1e-4"]).trials
    assert [(t.seed, t.entry) for t in trials] == [(0, "baseline"), (0, "l2=1e-4"), (1, "baseline"), (1, "l2=1e-4")]


def test_fingerprints_cover_arm_setting_seed_data_code_and_protocol(experiment, tmp_path, digits, monkeypatch):
    def first(**options):
        return make(experiment, tmp_path, **options).trials[0].fingerprint

    before = first()
    assert first() == before
    assert len({t.fingerprint for t in make(experiment, tmp_path).trials}) == 10
    assert first(setting=experiment.quick.replace(epochs=3)) != before
    for target, name, value in (
        (plan, "code_hash", lambda *_: "other"),
        (fingerprint, "PROTOCOL", 99),
        (plan, "load", lambda *key: Dataset(**{**vars(digits), "checksum": "other"})),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            assert first() != before, name


def test_a_field_at_its_default_is_not_part_of_a_fingerprint(experiment, tmp_path, digits):
    """So that a field added later leaves the rows of before valid."""
    before = fingerprint.fingerprint("baseline", "own", {"l2": 0.0}, 0, experiment.quick, digits, "code")
    decides = {
        "arm": "baseline",
        "arguments": {"l2": 0.0},
        "seed": 0,
        "setting": {"dataset": "digits", "epochs": 20, "train_size": 300},
        "data": digits.checksum,
        "code": "code",
        "protocol": fingerprint.PROTOCOL,
    }
    assert before == hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def test_a_smoke_run_fits_small_data_and_has_a_folder_of_its_own(experiment, tmp_path, digits):
    smoke = experiment.quick.replace(**plan.SMOKE)
    a_plan = make(experiment, tmp_path, setting=smoke, smoke=True, overridden=list(plan.SMOKE))
    assert a_plan.files.folder.name == "digits-smoke"
    longer = make(experiment, tmp_path, setting=smoke.replace(epochs=7), smoke=True, overridden=list(plan.SMOKE))
    assert longer.files.folder.name == "digits-smoke-epochs=7"


@pytest.mark.parametrize(("words", "flag"), [("FULL=1", True), ("FULL=0", False), ("FULL=", False)])
def test_a_switch_of_0_is_off(words, flag):
    assert parsing.parse(options.STUDY, [words]).full is flag


def test_a_misspelt_option_of_make_is_named():
    done = subprocess.run(["make", "exp-03", "EPOCH=3"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Received: EPOCH" in done.stderr


def stored(a_plan, trial, status="done", **changes):
    row = {**plan.known_columns(trial, a_plan.experiment.name, {}), "status": status, **changes}
    store.store(a_plan.files, store.Outcome(row=row), list(a_plan.experiment.arms))


def test_only_what_is_missing_runs_and_failed_trials_run_again(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    for trial, status in zip(a_plan.trials, ("done", "diverged", "failed", "unavailable"), strict=False):
        stored(a_plan, trial, status)
    assert a_plan.missing() == a_plan.trials[2:]
    assert a_plan.stale() == []


def test_rows_of_another_fingerprint_or_of_an_arm_that_is_gone_are_stale(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    stored(a_plan, a_plan.trials[0], fingerprint="old")
    stored(a_plan, a_plan.trials[1], arm="gone")
    stored(a_plan, a_plan.trials[2])
    assert [row["arm"] for row in a_plan.stale()] == ["baseline", "gone"]
    part = make(experiment, tmp_path, arms=["l2=1e-2"], seeds=[5])
    assert [row["arm"] for row in part.stale()] == ["baseline", "gone"]  # also what was not asked for now


def test_checkpoints_of_another_fingerprint_are_cleared(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    trial = a_plan.trials[0]
    old, own, other = (
        a_plan.files.state / name for name in ("baseline-0-0123456789ab", trial.folder_name, "baseline-10-0123456789ab")
    )
    for folder in (old, own, other):
        folder.mkdir(parents=True)
    a_plan.clear_stale_state()
    assert [folder.exists() for folder in (old, own, other)] == [False, True, True]


def test_the_estimate_rests_on_rows_where_there_are_some(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    assert a_plan.estimate(a_plan.trials, 2)[2] == "a guess, no rows yet" or schema.REFERENCE.exists()
    for trial in a_plan.trials[:5]:
        stored(a_plan, trial, final_epoch=20, total_seconds=12.0)
    seconds, disk, basis = a_plan.estimate(a_plan.trials[5:], 2)
    assert (seconds, basis) == (pytest.approx(plan.START_SECONDS + 5 * 12 / 2), "from rows here")
    assert disk == 5 * 359 * 10 * 4


def test_help_texts_name_what_there_is():
    texts = {option.name: option.meaning for option in options.OPTIONS}
    for name, words in (("dataset", NAMES), ("precision", PRECISIONS), ("tuner", command.SWEEP_TUNERS)):
        assert all(word in texts[name] for word in words)
    assert f"default {STALL_SECONDS}" in texts["stall_seconds"]


def test_a_value_that_looks_like_one_of_make_is_left_alone():
    assert parsing.parse(options.STUDY, ["--arms", "LR=1", "SEEDS=2"]).arms == "LR=1"
