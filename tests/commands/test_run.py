import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

from common.commands import run as command
from common.running import ray_engine, scripts

SCRIPT = PROJECT / "experiments" / "exp_03_l2.py"


@pytest.fixture(scope="module")
def experiment():
    return scripts.read_script(SCRIPT)


def run(experiment, capsys, *arguments):
    """Run the command in this process. Returns exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        command.main([str(experiment.path), *map(str, arguments)])
    return ended.value.code, *capsys.readouterr()


CASES = {
    "unknown option": (["--epoch", "3"], "unrecognized arguments: --epoch 3 (did you mean '--epochs'?)"),
    "unknown arm": (["--arms", "basline,l2=1e-4"], "Received: 'basline' (did you mean 'baseline'?)"),
    "no arm": (["--arms", ""], "at least one arm"),
    "unknown dataset": (["--dataset", "cifar11"], "Received: 'cifar11' (did you mean 'cifar10'?)"),
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
    "setting": (["--setting", "tiny"], "setting must be one of quick, small, full. Received: 'tiny'"),
    "setting misspelt": (["--setting", "smal"], "Received: 'smal' (did you mean 'small'?)"),
    "two settings": (["--setting", "small", "--full"], "Received: FULL=1 SETTING=small"),
    "train 0": (["--train", "0"], "Received: 0"),
    "size 0": (["--size", "0"], "Received: 0"),
    "colour": (["--colour", "blue"], "'blue'"),
    "precision": (["--precision", "float8"], "'float8'"),
    "checkpoint steps": (["--checkpoint-steps", "0"], "Received: 0"),
    "results a file": (["--results", str(SCRIPT)], str(SCRIPT)),
    "results of an unknown user": (
        ["--results", "~nobody-of-that-name/x"],
        "RESULTS begins with the home folder of somebody unknown",
    ),
    "engine": (["--engine", "rya"], "engine must be local or ray. Received: 'rya' (did you mean 'ray'?)"),
    "several machines without Ray": (["--workers", "2"], "WORKERS is an option of ENGINE=ray. Received: ENGINE=local"),
    "other kinds without Ray": (["--same-device", "0"], "SAME_DEVICE is an option of ENGINE=ray"),
    "same device a number": (["--engine", "ray", "--same-device", "2"], "same_device must be 0 or 1. Received: 2"),
    "debugger with Ray": (["--engine", "ray", "--debug"], "Received: ENGINE=ray"),
    "results below a file": (["--results", str(SCRIPT / "deeper")], "must be writable"),
}


@pytest.fixture
def without_workers(monkeypatch):
    """No workers start before the plan is made; see tests/running/test_workers.py."""
    monkeypatch.setattr(command, "_start_early", lambda *_, **__: None)


@pytest.mark.usefixtures("without_workers")
@pytest.mark.parametrize(("arguments", "message"), CASES.values(), ids=CASES.keys())
def test_misuse_is_one_line_on_stderr_and_status_2(experiment, capsys, tmp_path, arguments, message):
    if "--results" not in arguments:
        arguments = [*arguments, "--results", tmp_path]
    status, out, err = run(experiment, capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.usefixtures("without_workers")
@pytest.mark.parametrize("text", ["{", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'])
def test_a_tf_config_of_several_machines_is_refused_with_the_remedy(experiment, capsys, monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    status, _, err = run(experiment, capsys, "--dry")
    assert (status, err.count("\n")) == (2, 1)
    assert f"ENGINE=ray WORKERS=2 trains each trial on two machines of a Ray cluster, see docs/scale.md. Received: {text}" in err


def test_a_tf_config_of_one_machine_is_not_read(monkeypatch):
    assert not command._several_machines('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert not command._several_machines(" ")


@pytest.mark.usefixtures("without_workers")
def test_without_ray_the_error_names_the_remedy(experiment, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda _: None)
    status, _, err = run(experiment, capsys, "--engine", "ray", "--results", tmp_path)
    assert (status, err) == (
        2,
        "exp_03_l2: ENGINE=ray needs Ray, which is not installed: make setup RAY=1 installs it (300 MB)\n",
    )


@pytest.mark.usefixtures("without_workers")
def test_ray_is_not_started_where_memory_is_too_small(experiment, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda _: "ray")
    monkeypatch.setattr(ray_engine, "available_memory", lambda: 600_000_000)
    monkeypatch.delenv(ray_engine.ADDRESS, raising=False)
    status, _, err = run(experiment, capsys, "--engine", "ray", "--results", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "needs 1.5 GB of free memory on this machine" in err
    assert err.endswith("Received: 0.6 GB\n")


def test_nothing_of_ray_is_imported_by_a_run_without_it(tmp_path):
    code = (
        "import sys\nfrom common.commands import run\n"
        "try:\n    run.main(sys.argv[1:])\nfinally:\n    assert 'ray' not in sys.modules"
    )
    words = ["03", "--dry", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("without_workers")
def test_an_unreadable_image_is_one_line_and_status_2(experiment, capsys, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(b"no image")
    status, _, err = run(experiment, capsys, "--dataset", tmp_path / "pets", "--results", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert "10 of 10 images cannot be read" in err


def test_a_dry_run_describes_the_data(experiment, capsys, tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "$dog_"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(generator.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cat" / "list.txt").touch()
    status, out, _ = run(experiment, capsys, "--dataset", tmp_path / "pets", "--results", tmp_path / "out", "--dry")
    notes = "the test images are a fifth of each class, chosen by a hash of their pixels; ignored: 1 .txt (not read by Pillow)"
    assert f"data: 2 classes ($dog_: 10, cat: 10), 14 train, 2 val, 4 test; 8×8 grey; {notes}" in out.splitlines()[:4]
    assert status == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write to all folders")
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


def test_a_dry_run_prints_trials_time_disk_and_setting_and_writes_nothing(experiment, capsys, tmp_path, digits):
    status, out, err = run(experiment, capsys, "--dry", "--results", tmp_path, "--seeds", 2, "--arms", "baseline,l2=1e-4")
    assert (status, err) == (0, "")
    # 6 rates with 2 seeds each on the baseline, then 3 of them with 3 more.
    assert (
        "12 search trials to run, up to 9 more (not counting wider ranges), then at most 4 with the chosen values, about" in out
    )
    assert "of disk" in out
    assert "epochs 40, batch_size 32, train_size 300, image_size 14" in out
    assert list(tmp_path.iterdir()) == []


def test_arms_with_commas_in_their_names_can_be_chosen(experiment):
    assert command._chosen_arms(["baseline", "a", "a,b"], "a,b,baseline") == ["baseline", "a,b"]
    assert command._chosen_arms(experiment.arms, "l2=1e-4,baseline") == ["baseline", "l2=1e-4"]


@pytest.fixture
def pets(tmp_path):
    """An image folder: three classes with 5, 40 and 75 images of 20×16 pixels."""
    for name, count in (("bird", 5), ("cat", 40), ("dog", 75)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        generator = np.random.default_rng(count)
        for i in range(count):
            Image.fromarray(generator.integers(0, 255, (16, 20, 3), np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_gpus_that_tensorflow_cannot_use_are_reported(experiment, capsys, tmp_path, monkeypatch):
    for unused in (False, True):
        monkeypatch.setattr("common.running.session.has_unused_gpus", lambda unused=unused: unused)
        status, out, _ = run(experiment, capsys, "--dry", "--results", tmp_path)
        assert status == 0
        assert ("make setup GPU=1" in out) == unused


def test_an_image_folder_runs_in_the_small_setting_limited_to_its_images(experiment, capsys, tmp_path, pets):
    status, out, err = run(experiment, capsys, "--dataset", pets, "--dry", "--results", tmp_path / "out")
    assert (status, err) == (0, "")
    # 120 images, of which a fifth is the test split and a tenth of the rest is val.
    assert f"small, {pets}: epochs 18, batch_size 32, train_size 86 (as many as the data allow), precision float32" in out
    assert "rows in " + str(tmp_path / "out" / "small-") in out
    assert "12 search trials to run, up to 9 more (not counting wider ranges), then at most 25 with the chosen values" in out


def test_a_folder_given_by_a_relative_path_is_kept_by_its_whole_path(experiment, capsys, tmp_path, pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    status, out, err = run(experiment, capsys, "--dataset", pets.name, "--dry", "--results", tmp_path / "out")
    assert (status, err) == (0, "")
    assert f"small, {pets}: " in out
    path = tmp_path / "exp_41_pets.py"
    path.write_text(experiment.path.read_text().replace('setting=Setting("cifar10"', f'setting=Setting("{pets.name}"'))
    _, out, _ = run(scripts.read_script(path), capsys, "--dataset", pets.name, "--dry", "--results", tmp_path / "out")
    assert f"full, {pets.name}: " in out  # the setting that declares it, by the same name
    (pets.parent / "digits").mkdir()
    _, _, err = run(experiment, capsys, "--dataset", "digits", "--dry", "--results", tmp_path / "out")
    assert err == "DATASET=digits is the dataset of that name, not the folder here: that is DATASET=./digits\n"


def test_classes_without_a_training_image_are_reported(experiment, capsys, tmp_path):
    status, out, _ = run(experiment, capsys, "--train", 3, "--batch", 3, "--dry", "--results", tmp_path)
    assert status == 0
    assert "baseline: 3 training images of 10 classes, so that some have none\n" in out


def test_the_users_sizes_must_not_exceed_the_images_of_a_folder(experiment, capsys, tmp_path, pets):
    options = ("--dataset", pets, "--dry", "--results", tmp_path / "out")
    status, out, _ = run(experiment, capsys, *options, "--train", 40)
    assert (status, "train_size 40," in out) == (0, True)
    status, out, _ = run(experiment, capsys, *options, "--full")  # declared with batches of 128 images
    assert (status, "full, " in out, "batch_size 86 (as many as the data allow), precision" in out) == (0, True, True)
    for option, value, message in (("--train", 87, "TRAIN=86. Received: 87"), ("--batch", 87, "BATCH=86. Received: 87")):
        status, _, err = run(experiment, capsys, *options, option, value)
        assert (status, err.count("\n"), message in err) == (2, 1, True), err


def test_an_arm_that_needs_more_images_than_a_folder_has_cannot_run(capsys, tmp_path, pets):
    features = scripts.read_script(next(PROJECT.glob("experiments/exp_29_*.py")))
    status, out, err = run(features, capsys, "--dataset", pets, "--dry", "--results", tmp_path)
    assert (status, err) == (0, "")
    for size in (1000, 300, 100):
        assert f"CNN, {size} examples cannot run: it needs {size} training images, {pets} has 86 without validation\n" in out
    assert "all examples cannot run" not in out
    assert "search trials to run" in out  # for the other arms


def test_the_size_of_a_long_tail_is_limited_by_its_most_frequent_class(capsys, tmp_path, pets):
    skewed = scripts.read_script(next(PROJECT.glob("experiments/exp_23_*.py")))
    status, out, err = run(skewed, capsys, "--dataset", pets, "--dry", "--results", tmp_path)
    assert (status, err) == (0, "")
    # The first class has 3 images and, in a tail of 100:10:1, a share of 0.9, so the largest size is ⌊3 / 0.9⌋ = 3.
    assert "train_size 3 (as many as the data allow)" in out


def test_classes_that_an_image_folder_does_not_have_are_refused(capsys, tmp_path, pets):
    transfer = scripts.read_script(next(PROJECT.glob("experiments/exp_27_*.py")))
    status, _, err = run(transfer, capsys, "--dataset", pets, "--dry", "--results", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "classes must be between 0 and 2, the last of" in err
