"""Plans: the order of trials, what fingerprints cover, and which rows are missing or stale."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import searches
from conftest import PROJECT
from PIL import Image
from searches import SCRIPT as SEARCHED

from common import tasks
from common.data.dataset import Dataset
from common.data.streams import Streams
from common.errors import Failure
from common.rows import schema, store
from common.running import estimate, fingerprint, plan, resolve, runner, scripts
from common.running.locks import TrialLocks
from common.running.session import Session
from common.space import space_hash


@pytest.fixture(scope="module")
def experiment():
    return scripts.read_script(PROJECT / "experiments" / "exp_03_l2.py")


def make(experiment, tmp_path, *, arms=None, seeds=range(2), smoke=False, **overrides):
    trials = [(plan.Variant(arm), seed) for seed in seeds for arm in arms or experiment.arms]
    return plan.Planner(experiment, experiment.select(overrides=overrides, smoke=smoke), tmp_path).plan(trials)


def test_trials_run_seed_by_seed_with_the_arms_interleaved(experiment, tmp_path, digits):
    trials = make(experiment, tmp_path, arms=["baseline", "l2=1e-4"]).trials
    assert [(t.seed, t.entry) for t in trials] == [(0, "baseline"), (0, "l2=1e-4"), (1, "baseline"), (1, "l2=1e-4")]


def test_fingerprints_cover_arm_setting_seed_data_code_and_protocol(experiment, tmp_path, digits, monkeypatch):
    def first(**options):
        return make(experiment, tmp_path, **options).trials[0].fingerprint

    before = first()
    assert first() == before
    assert len({t.fingerprint for t in make(experiment, tmp_path).trials}) == 10
    assert first(epochs=3) != before
    for target, name, value in (
        (plan, "code_hash", lambda *_: "other"),
        (fingerprint, "PROTOCOL", 99),
        (resolve, "load", lambda *key: Dataset(**{**vars(digits), "checksum": "other"})),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            assert first() != before, name


def test_fields_with_their_default_are_not_part_of_a_fingerprint(experiment, tmp_path, digits):
    """So a new field does not invalidate old rows."""
    before = fingerprint.fingerprint("baseline", "own", {"l2": 0.0}, 0, experiment.settings["quick"], digits, "code")
    inputs = {
        "arm": "baseline",
        "arguments": {"l2": 0.0},
        "seed": 0,
        "setting": {"dataset": "digits", "epochs": 40, "train_size": 300, "image_size": 14},
        "data": digits.checksum,
        "code": "code",
        "protocol": fingerprint.PROTOCOL,
    }
    assert before == hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def test_a_smoke_run_is_short_and_has_a_separate_folder(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path, smoke=True)
    assert a_plan.files.folder.name == "quick-digits-smoke"
    assert (a_plan.trials[0].setting.epochs, a_plan.trials[0].setting.train_size) == (1, 256)
    longer = make(experiment, tmp_path, smoke=True, epochs=7)
    assert longer.files.folder.name == "quick-digits-smoke-epochs=7"
    assert longer.trials[0].setting.epochs == 7
    declared = make(experiment, tmp_path, smoke=True, epochs=experiment.settings["quick"].epochs)
    assert declared.files.folder.name == f"quick-digits-smoke-epochs={experiment.settings['quick'].epochs}"
    assert make(experiment, tmp_path, smoke=True, epochs=1).files.folder.name == "quick-digits-smoke"


def stored(a_plan, trial, status="done", **changes):
    row = {**plan.known_columns(trial, a_plan.experiment.name, a_plan.planner.origin), "status": status, **changes}
    store.store(a_plan.files, store.Outcome(row=row), list(a_plan.experiment.arms))


def test_missing_and_failed_trials_are_run(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    for trial, status in zip(a_plan.trials, ("done", "diverged", "failed", "unavailable"), strict=False):
        stored(a_plan, trial, status)
    assert a_plan.missing() == a_plan.trials[2:]
    assert a_plan.stale() == []


def test_a_trial_is_done_elsewhere_once_another_run_has_written_its_row(experiment, tmp_path, digits):
    here, other = make(experiment, tmp_path), make(experiment, tmp_path)
    stored(other, other.trials[0])
    locks = TrialLocks(here)
    assert not any(map(locks.done_elsewhere, here.trials))  # the first was done before this run was planned
    stored(other, other.trials[1])
    stored(other, other.trials[2], "failed")
    stored(other, other.trials[3], kind="another")
    stored(other, other.trials[4], fingerprint="old")
    for _ in range(2):
        assert [locks.done_elsewhere(trial) for trial in here.trials[:6]] == [False, True, False, False, False, False]
        store.fold(other.files)


def test_rows_of_another_fingerprint_or_of_a_removed_arm_are_stale(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    stored(a_plan, a_plan.trials[0], fingerprint="old")
    stored(a_plan, a_plan.trials[1], arm="gone")
    stored(a_plan, a_plan.trials[2])
    assert [row["arm"] for row in a_plan.stale()] == ["baseline", "gone"]
    part = make(experiment, tmp_path, arms=["l2=1e-2"], seeds=[5])
    assert [row["arm"] for row in part.stale()] == ["baseline", "gone"]  # also those that are not planned


def test_rows_searched_in_another_space_are_stale(tmp_path, digits):
    """Also in a run of other arms, which would be searched in the present one."""
    plans = {}
    for name, text in (("before", SEARCHED), ("now", SEARCHED.replace("log_range(0.001, 0.1", "log_range(0.003, 0.3"))):
        (tmp_path / name).mkdir()
        experiment = scripts.read_script(searches.write(tmp_path / name, text))
        planner = plan.Planner(experiment, experiment.select(), tmp_path / "out")
        variants = [
            plan.Variant(arm, rate, {"learning_rate": 0.1}, search=space_hash(experiment.search[arm]))
            for arm in ("baseline", "momentum")
            for rate in (schema.OWN, schema.COMMON)
        ]
        plans[name] = planner.plan([(variant, 0) for variant in [*variants, plan.Variant("fixed")]])
        plans[name, "fixed"] = planner.plan([(plan.Variant("fixed"), 0)])
    for trial in plans["before"].trials:
        stored(plans["before"], trial)
    assert plans["before"].stale() == plans["before", "fixed"].stale() == []
    assert plans["now"].stale() == []  # the same rates were chosen again
    assert [row["arm"] for row in plans["now", "fixed"].stale()] == ["baseline", "momentum"] * 2


def test_rows_that_another_run_has_replaced_end_the_run(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    for trial in a_plan.trials:
        stored(a_plan, trial, "failed" if trial.seed else "done")
    run = Session(a_plan.planner, runner.RunOptions(), None)
    run.check_rows(a_plan)
    stored(a_plan, a_plan.trials[3], fingerprint="of other values")
    with pytest.raises(Failure, match=r"another run, with other searched values, has replaced 1 of 10 rows of \S+: when it has"):
        run.check_rows(a_plan)


def test_checkpoints_of_another_fingerprint_are_deleted(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    trial = a_plan.trials[0]
    old, current, other = (
        a_plan.files.state / name for name in ("baseline-0-0123456789ab", trial.folder_name, "baseline-10-0123456789ab")
    )
    for folder in (old, current, other):
        folder.mkdir(parents=True)
    a_plan.clear_stale_state()
    assert [folder.exists() for folder in (old, current, other)] == [False, True, True]


def test_the_estimate_is_made_from_rows_if_there_are_any(experiment, tmp_path, digits):
    a_plan = make(experiment, tmp_path)
    assert estimate.estimate(a_plan, a_plan.trials, 2)[2] == "a guess, no rows yet" or schema.REFERENCE.exists()
    for trial in a_plan.trials[:5]:
        stored(a_plan, trial, final_epoch=160, total_seconds=12.0)  # of more than one stage, or of more epochs than the setting's
    seconds, disk, basis = estimate.estimate(a_plan, a_plan.trials[5:], 2)
    assert (seconds, basis) == (pytest.approx(estimate.START_SECONDS + 5 * 12 / 2), "from rows here")
    assert disk == 5 * 359 * 10 * 4


def test_the_estimate_of_arms_with_more_epochs_is_that_many_times_larger(tmp_path, digits):
    """DRY=1 said a quarter of what the arms 4E of experiment 05 take, although it had their rows."""
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_05_dropout.py")
    a_plan = make(experiment, tmp_path, arms=["baseline", "baseline, 4E"], seeds=[0])
    short, long = a_plan.trials
    assert long.setting.epochs == 4 * short.setting.epochs
    stored(a_plan, short, total_seconds=10.0)
    stored(a_plan, long, total_seconds=40.0)
    assert [estimate.estimate(a_plan, [trial], 1)[0] - estimate.START_SECONDS for trial in (short, long)] == pytest.approx(
        [10, 40]
    )


def test_the_estimate_of_small_batches_is_larger_by_their_updates(tmp_path, digits):
    """Batches of 2 of experiment 16 took 3.5 times as long as those of 32; DRY=1 said the same time for both."""
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_16_normalisation.py")
    a_plan = make(experiment, tmp_path, seeds=[0])
    sizes = [trial.setting.batch_size for trial in a_plan.trials]
    assert set(sizes) == {2, 32}
    store.write_declaration(a_plan.files, a_plan.planner.declaration())
    stored(a_plan, a_plan.trials[sizes.index(32)], total_seconds=10.0)
    a_plan.planner.files = a_plan.files._replace(experiment="exp_98_another")
    small, large = (estimate.estimate(a_plan, [a_plan.trials[sizes.index(size)]], 1)[0] for size in (2, 32))
    assert large - estimate.START_SECONDS == pytest.approx(10)
    assert 30 < small - estimate.START_SECONDS < 40


def test_the_estimate_counts_a_rate_that_is_own_and_common_once(experiment, tmp_path, digits):
    variants = [plan.Variant("baseline", rate, {"l2": 0.5}) for rate in (schema.OWN, schema.COMMON)]
    a_plan = plan.Planner(experiment, experiment.select(), tmp_path).plan([(variant, 0) for variant in variants])
    assert a_plan.trials[0].is_repeated_by(a_plan.trials[1])
    (alone, *_), (both, *_) = (estimate.estimate(a_plan, trials, 1) for trials in (a_plan.trials[:1], a_plan.trials))
    assert both - estimate.START_SECONDS == pytest.approx(2 * (alone - estimate.START_SECONDS))  # before the rates are known
    assert estimate.estimate(a_plan, a_plan.trials, 1, once=True)[0] == alone


def test_the_tables_of_a_rate_that_is_own_and_common_have_both_names(experiment, tmp_path, digits):
    variants = [plan.Variant("baseline", rate, {"l2": 0.5}) for rate in (schema.OWN, schema.COMMON)]
    own, common = plan.Planner(experiment, experiment.select(), tmp_path).plan([(variant, 0) for variant in variants]).trials
    line = {"rate": schema.OWN, "value": 1.0}
    outcome = store.Outcome(row={"rate": schema.OWN, "fingerprint": own.fingerprint}, epochs=[line], measures=[line])
    named = runner._named(outcome, common)
    assert named.epochs == named.measures == [{"rate": schema.COMMON, "value": 1.0}]
    assert (named.row["rate"], named.row["fingerprint"]) == (schema.COMMON, common.fingerprint)
    assert outcome.epochs == [line]


def test_without_rows_of_an_experiment_those_of_others_in_its_setting_serve(experiment, tmp_path, digits):
    other, a_plan = make(experiment, tmp_path), make(experiment, tmp_path)
    store.write_declaration(other.files, other.planner.declaration())
    for trial, total in zip(other.trials[:3], (4.0, 12.0, 400.0), strict=True):
        stored(other, trial, total_seconds=total)
    a_plan.planner.files = other.files._replace(experiment="exp_98_another")
    seconds, _, basis = estimate.estimate(a_plan, a_plan.trials[:4], 2)
    assert (seconds, basis) == (pytest.approx(estimate.START_SECONDS + 4 * 12 / 2), "from rows of other experiments")


def test_own_and_common_rate_are_separate_trials_even_if_equal(experiment, tmp_path, digits):
    variants = [plan.Variant("baseline", rate, {"l2": 0.5}) for rate in (schema.OWN, schema.COMMON)]
    a_plan = plan.Planner(experiment, experiment.select(), tmp_path).plan([(variant, 0) for variant in variants])
    assert len({trial.fingerprint for trial in a_plan.trials}) == 2
    for trial in a_plan.trials:
        stored(a_plan, trial)
    rows = store.read_rows(a_plan.files)
    assert [(row["arm"], row["rate"], row["point"]) for row in rows] == [("baseline", "own", ""), ("baseline", "common", "")]
    assert a_plan.missing() == a_plan.stale() == []


def test_points_of_a_search_are_distinguished_by_their_values(experiment, tmp_path, digits):
    variants = [plan.Variant.search_point("baseline", {"l2": value}) for value in (0.5, 0.25)]
    a_plan = plan.Planner(experiment, experiment.select(), tmp_path).plan([(v, 1000) for v in variants], searching=True)
    for trial in a_plan.trials:
        stored(a_plan, trial)
    assert {row["point"] for row in store.read_rows(a_plan.files)} == {'{"l2": 0.5}', '{"l2": 0.25}'}
    assert a_plan.missing() == []


# --- kinds of processors ---


@pytest.fixture
def begun(experiment, tmp_path, digits, monkeypatch):
    """f(*statuses) -> a plan of two arms and two seeds, with rows of these statuses from another kind of processor."""

    def begin(*statuses):
        a_plan = make(experiment, tmp_path, arms=["baseline", "l2=1e-4"])
        for trial, status in zip(a_plan.trials, statuses, strict=False):
            if status:
                stored(a_plan, trial, status, kind="before")
        return a_plan

    return begin


def test_all_arms_of_an_unfinished_seed_of_another_kind_are_trained_again(begun):
    a_plan = begun("done", "diverged", "done")
    assert [(row["arm"], row["seed"]) for row in a_plan.of_another_kind()] == [("baseline", "1")]
    assert a_plan.missing() == a_plan.trials[2:]


def test_of_a_seed_with_mixed_kinds_the_rows_of_another_kind_are_trained_again(begun):
    a_plan = begun("done", None, "done", "done")
    stored(a_plan, a_plan.trials[1])
    assert [(row["arm"], row["seed"]) for row in a_plan.of_another_kind()] == [("baseline", "0")]
    assert a_plan.missing() == a_plan.trials[:1]


@pytest.mark.parametrize("status", ["failed", "unavailable"])
def test_a_failed_or_unavailable_trial_leaves_the_rows_of_its_seed(begun, status):
    a_plan = begun("done", status, "done", "done")
    assert a_plan.of_another_kind() == []
    assert a_plan.missing() == [a_plan.trials[1]]
    stored(a_plan, a_plan.trials[1])  # until it is done
    assert [row["arm"] for row in a_plan.of_another_kind()] == ["baseline"]


def test_checkpoints_of_another_kind_are_not_resumed(begun):
    trial = begun().trials[0]
    assert trial.folder_name != dataclasses.replace(trial, kind="before").folder_name


@pytest.fixture
def published(monkeypatch, digits):
    """Experiment 01, with digits in place of each dataset under the dataset's name."""

    def load(name, image_size, colour):
        return Dataset(**{**vars(digits), "name": name, "checksum": name * 10})

    monkeypatch.setattr(resolve, "load", load)
    return scripts.read_script(PROJECT / "experiments" / "exp_01_baseline_cnn.py")


def planned(experiment, tmp_path, name, **overrides):
    planner = plan.Planner(experiment, experiment.select(name, overrides), tmp_path)
    return planner, planner.plan([(plan.Variant(arm), 0) for arm in experiment.arms]).trials


def test_each_published_network_is_trained_on_its_dataset(published, tmp_path):
    expected = {
        "loss_tuning": "cifar10",
        "gradient_descent": "cifar10",
        **dict.fromkeys(("loss_choice", "loss_choice, x / 255", "speed_accuracy"), "mnist"),
    }
    for name in ("small", "full"):
        planner, trials = planned(published, tmp_path, name)
        assert planner.files.folder.name == f"{name}-cifar10+mnist"
        assert {trial.entry: trial.dataset.name for trial in trials} == expected
        assert planner.declaration()["datasets"] == expected
        columns = [plan.known_columns(trial, "exp_01_baseline_cnn", planner.origin) for trial in trials]
        assert [row["dataset"] for row in columns] == list(expected.values())
        assert [json.loads(row["setting"])["dataset"] for row in columns] == list(expected.values())


@pytest.mark.parametrize(
    ("name", "overrides", "dataset"), [("quick", {}, "digits"), ("small", {"dataset": "cifar10"}, "cifar10")]
)
def test_quick_and_a_dataset_of_the_users_are_shared_by_the_published_networks(published, tmp_path, name, overrides, dataset):
    planner, trials = planned(published, tmp_path, name, **overrides)
    assert planner.files.folder.name == f"{name}-{dataset}"
    assert {trial.dataset.name for trial in trials} == {dataset}
    assert "datasets" not in planner.declaration()


def test_an_arm_on_some_classes_cannot_run_with_more_images_than_they_have(tmp_path, digits):
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_02_losses.py")
    _, trials = planned(experiment, tmp_path, "quick")
    of_two = [trial for trial in trials if trial.setting.classes]
    assert len(of_two) == 2
    assert all(trial.setting.train_size < 300 and not trial.unavailable for trial in of_two)  # all that two classes have
    _, trials = planned(experiment, tmp_path, "quick", train_size=400)
    assert {bool(trial.setting.classes): trial.unavailable for trial in trials} == {
        False: "",
        True: f"needs 400 training images, digits has {of_two[0].setting.train_size} without validation",
    }


def test_a_long_tail_cut_to_a_folder_can_be_drawn_in_every_seed(tmp_path, monkeypatch):
    """Numbers of training images of a class differ by one between the splits of seeds."""
    generator = np.random.default_rng(0)
    for name in "abcde":
        (tmp_path / "five" / name).mkdir(parents=True)
        for i in range(30):
            Image.fromarray(generator.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "five" / name / f"{i}.png")
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_23_class_imbalance.py")
    _, arms = resolve.resolve(experiment, experiment.select(None, {"dataset": str(tmp_path / "five")}))
    counts = set()
    for seed in range(8):
        for arm in arms.values():
            setting = arm.setting
            train, _, _ = tasks.examples(
                arm.dataset, experiment.task, Streams(seed), train_size=setting.train_size, imbalance=setting.imbalance
            )
            assert len(train) == setting.train_size
        counts.add(tuple(np.bincount(arm.dataset.split(Streams(seed))[0].labels)))
    assert len(counts) > 1
