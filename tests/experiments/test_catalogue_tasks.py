"""Arms of the experiments on data, tasks and losses (20 to 28, 37) train what their names say."""

import numpy as np
import pytest
from conftest import PROJECT
from keras import losses as keras_losses
from keras import optimizers

from common import losses, models, tasks
from common.data.split import Split, folds
from common.data.streams import Streams
from common.errors import Misuse
from common.experiment import Setting
from common.training.execution import load_script
from common.training.scoring import score
from common.training.seeding import seeded_weights
from common.training.trial import Examples, Host, Trial

pytestmark = pytest.mark.slow


def trained(trial, number, **arguments):
    """What `train` of an experiment returns."""
    (path,) = PROJECT.glob(f"experiments/exp_{number}_*.py")
    with seeded_weights(trial.streams):
        return load_script(str(path)).train(trial, **arguments)


def handed_to_fit(trial, number, **arguments):
    """The options with which `train` of an experiment calls `trial.fit`, which does not run."""
    options = {}
    trial.fit = lambda model, **given: options.update(given)
    trained(trial, number, **arguments)
    return options


def measures(trial):
    return {name: value for name, value, _ in trial.measures}


@pytest.fixture
def task_trial(digits, tmp_path):
    """Trials of a task on few digits."""

    def make(task):
        train, val, _ = tasks.examples(digits, task, Streams(0), train_size=64)
        examples = Examples(train, val.take(np.arange(40)), digits.classes, digits.train_size)
        return Trial(examples, Host(tmp_path / "state"), streams=Streams(0), task=task, epochs=1, batch_size=16)

    return make


# --- 20: training-set size ---


@pytest.mark.parametrize(("overrides", "full", "tenth"), [({}, 1150, 115), ({"train_size": 500}, 500, 50)])
def test_a_share_is_of_the_settings_images_up_to_which_they_are_repeated(digits, tmp_path, overrides, full, tenth):
    from common.running.plan import Planner, Variant
    from common.running.process import job

    (path,) = PROJECT.glob("experiments/exp_20_*.py")
    experiment = load_script(str(path))
    planner = Planner(experiment, experiment.select(overrides=overrides), tmp_path)
    plan = planner.plan([(Variant(arm), 0) for arm in experiment.arms])
    jobs = {trial.entry: job(plan, trial, {}, keep=None, checkpoint_steps=None) for trial in plan.trials}
    sizes = {entry: one.setting.train_size or digits.split_sizes()[0] for entry, one in jobs.items()}
    assert (sizes["all images"], sizes["10 %, equal steps"], sizes["10 %, equal epochs"]) == (full, tenth, tenth)
    assert {one.full_size for one in jobs.values()} == {full}


def test_a_worker_repeats_a_share_up_to_the_settings_images(digits, tmp_path):
    """8 of 80 images make 10 updates of 8 in an epoch of equal steps, as all 80 do, and 1 with equal epochs."""
    import tensorflow as tf

    from common.running.plan import Planner, Variant, known_columns
    from common.running.process import job
    from common.training.execution import run_trial

    (path,) = PROJECT.glob("experiments/exp_20_*.py")
    experiment = load_script(str(path))
    planner = Planner(experiment, experiment.select(overrides={"train_size": 80, "epochs": 1}), tmp_path)
    steps = {}
    for arm in ("all images", "10 %, equal steps", "10 %, equal epochs"):
        plan = planner.plan([(Variant(arm, values={"learning_rate": 0.01}), 0)])
        row = known_columns(plan.trials[0], experiment.name, planner.origin)
        one = job(plan, plan.trials[0], row, keep=None, checkpoint_steps=None)
        steps[arm] = run_trial(one, tf.distribute.OneDeviceStrategy("/cpu:0"), lambda **_: None).row["steps"]
    assert steps == {"all images": 10, "10 %, equal steps": 10, "10 %, equal epochs": 1}


def test_a_share_of_the_images_is_planned_again_from_its_row(digits, tmp_path):
    from common.commands import reproduce
    from common.running.plan import Planner, Variant, known_columns

    (path,) = PROJECT.glob("experiments/exp_20_*.py")
    experiment = load_script(str(path))
    planner = Planner(experiment, experiment.select(overrides={"train_size": 500}), tmp_path)
    variant = Variant("10 %, equal steps", values={"learning_rate": 0.01}, search="a" * 12)
    row = known_columns(planner.planned(variant, 0), experiment.name, planner.origin)
    plan = reproduce.plan_again({name: str(value) for name, value in row.items()}, tmp_path)
    assert plan.trials[0].full_size == 500
    reproduce.check_same(row, plan)


def test_the_settings_images_are_part_of_the_fingerprint_of_an_arm_with_some_of_them(tmp_path):
    """`train` can read their number, up to which exp 20 repeats images: 256 of 512 images are not 256 of 1,024."""
    from common.running.plan import Planner, Variant

    (path,) = PROJECT.glob("experiments/exp_12_*.py")
    experiment = load_script(str(path))
    few, more = (Planner(experiment, experiment.select(overrides={"train_size": size}), tmp_path) for size in (512, 1024))
    assert few.planned(Variant("part, batch 1"), 0).setting == more.planned(Variant("part, batch 1"), 0).setting
    assert few.planned(Variant("part, batch 1"), 0).fingerprint != more.planned(Variant("part, batch 1"), 0).fingerprint


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(Misuse, match="train_size must"):
        Setting("digits", epochs=1, train_size=share)


def test_repeated_images_make_an_epoch_of_the_full_length(make_trial):
    few, all_alike = (make_trial(train_size=16, full_size=64, folder=name) for name in ("few", "all alike"))
    trained(few, "20", repeated=True, learning_rate=0.02)
    assert few.fits["fit"].steps == few.epochs * 64 // 16
    trained(all_alike, "20", repeated=False, learning_rate=0.02)
    assert all_alike.fits["fit"].steps == all_alike.epochs


# --- 22 and 23: losses against noise and skew ---


def test_early_stopping_returns_the_weights_of_the_lowest_validation_loss(make_trial):
    trial = make_trial(epochs=12)
    model = trained(trial, "22", loss="early-stopped CE", learning_rate=0.3)
    history = [row["val_loss"] for row in trial.fits["fit"].history]
    outputs = trial.predict(model, trial.val)
    assert -np.log(_softmax(outputs)[np.arange(len(trial.val)), trial.val.labels]).mean() == pytest.approx(min(history), rel=1e-4)


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_class_weights_weigh_the_rare_ones_and_leave_a_balanced_set_alone(digits, make_trial):
    trial = make_trial()
    trial.train, _, _ = tasks.examples(digits, tasks.classification, Streams(0), train_size=100, imbalance=20.0)
    counts = np.bincount(trial.train.labels)
    weights = handed_to_fit(trial, "23", loss="class weights", learning_rate=0.1)["class_weight"]
    assert weights * counts == pytest.approx(np.full(10, 10.0))  # each class weighs the same, the mean loss keeps its scale
    rarer = handed_to_fit(trial, "23", loss="class-balanced", learning_rate=0.1)["class_weight"]
    assert 1 < rarer[9] / rarer[0] < weights[9] / weights[0]
    assert handed_to_fit(trial, "23", loss="cross-entropy", learning_rate=0.1)["class_weight"] is None
    assert losses.class_balanced_weights([10] * 10, 0.99) == pytest.approx(np.ones(10))
    balanced = losses.logit_adjusted([0.1] * 10)
    targets, logits = np.eye(10, dtype=np.float32)[:3], np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    plain = keras_losses.CategoricalCrossentropy(from_logits=True).call(targets, logits)
    assert balanced(targets, logits).numpy() == pytest.approx(plain.numpy(), rel=1e-5)


@pytest.mark.parametrize("loss", ["class weights", "focal", "class-balanced", "logit adjustment", "hinge"])
def test_every_loss_for_skewed_classes_trains(digits, make_trial, loss):
    trial = make_trial()
    trial.train, _, _ = tasks.examples(digits, tasks.classification, Streams(0), train_size=64, imbalance=20.0)
    trained(trial, "23", loss=loss, learning_rate=0.05)
    first, last = (row["train_loss"] for row in trial.fits["fit"].history)
    assert last < first


# --- 24 and 25: other tasks ---


def test_softmax_predicts_labels_above_half_of_the_smallest_share(task_trial):
    trial = task_trial(tasks.tiles)
    model = trained(trial, "24", loss="softmax", cut="fixed", learning_rate=0.1)
    outputs = trial.predict(model, trial.val)
    shares = np.exp(outputs) / 6
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(shares)), rel=1e-4)
    assert np.array_equal(outputs > 0, shares > 1 / 6)


def test_a_cut_chosen_on_val_is_no_worse_there(task_trial):
    trial = task_trial(tasks.tiles)
    predictor = trained(trial, "24", loss="binary", cut="val", learning_rate=0.3)
    plain = trial.predict(trial.models["fit"], trial.val)
    cut = predictor.predict(trial.val.images)
    assert cut == pytest.approx(plain - measures(trial)["cut"], abs=1e-5)
    f1 = [tasks.tiles.scores(outputs, trial.val.labels)["f1"] for outputs in (cut, plain)]
    assert f1[0] >= f1[1]


@pytest.mark.parametrize("loss", ["MSE", "MAE", "Huber"])
def test_angles_are_learned(task_trial, loss):
    trial = task_trial(tasks.rotated)
    trial.epochs = 8
    trained(trial, "25", loss=loss, learning_rate=0.02)
    history = trial.fits["fit"].history
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert min(row["val_error"] for row in history) < 22.5  # what the constant 0 scores


def test_outliers_move_the_mean_more_than_the_median(task_trial):
    # Nine targets of 0 and one of 1: MSE is lowest at 0.1, MAE at 0, Huber (δ = 0.1) where 9 c = 0.1, at 0.011.
    targets = np.array([[0.0]] * 9 + [[1.0]], np.float32)
    places = np.linspace(-0.2, 0.5, 701, dtype=np.float32)
    trial = task_trial(tasks.rotated)
    made = {name: handed_to_fit(trial, "25", loss=name, learning_rate=0.1)["loss"] for name in ("MSE", "MAE", "Huber")}
    best = {
        name: places[np.argmin([float(np.mean(loss.call(targets, np.full_like(targets, c)))) for c in places])]
        for name, loss in made.items()
    }
    assert best == pytest.approx({"MSE": 0.1, "MAE": 0.0, "Huber": 0.011}, abs=1e-3)


# --- 26: combined losses ---


def test_centre_loss_draws_features_together_and_centres_follow(make_trial):
    spreads = []
    for strength in (0.0, 0.3):
        trial = make_trial(train_size=128, epochs=20, folder=f"{strength:g}")
        model = trained(trial, "26", added="centre", strength=strength, learning_rate=0.05)
        centres = model.get_layer("centres").centres.numpy()
        assert centres.shape == (10, 32)
        assert np.abs(centres).max() > 0.1
        assert model.output_shape == (None, 10)
        features = _features(model, trial.train)
        means = np.stack([features[trial.train.labels == c].mean(axis=0) for c in range(10)])
        within = np.square(features - means[trial.train.labels]).sum() / np.square(features - features.mean(axis=0)).sum()
        spreads.append(within)
        if strength:
            assert np.linalg.norm(centres - means) < 0.5 * np.linalg.norm(means)
    assert spreads[1] < spreads[0]


def _features(model, split):
    import keras

    part = keras.Model(model.input, model.get_layer("dense_activation1").output)
    return np.asarray(part(split.images.astype(np.float32)))


def loss_at_the_start(trial, **arguments):
    """The training loss of an epoch at a rate that is so small that the network stays as it begins."""
    trained(trial, "26", learning_rate=1e-9, **arguments)
    return trial.fits["fit"].history[0]["train_loss"]


@pytest.fixture(scope="module")
def entropy(make_shared_trial):
    return loss_at_the_start(make_shared_trial(epochs=1), added="nothing", strength=0.0)


@pytest.mark.parametrize("added", ["MSE", "hinge", "confidence penalty"])
def test_an_added_loss_is_part_of_the_training_loss(entropy, make_trial, added):
    difference = loss_at_the_start(make_trial(epochs=1), added=added, strength=0.3) - entropy
    # Before training the second loss is 0.3 of the first; the penalty on confidence is below 0.
    assert difference == pytest.approx(0.3 * entropy * (-1 if added == "confidence penalty" else 1), rel=0.02)


# --- 28: cross-validation ---


def test_each_fold_is_held_out_from_the_training_that_it_scores(make_trial, monkeypatch):
    trial = make_trial(train_size=60, epochs=1)
    seen = []
    original = trial.fit

    def spy(model, *, on=None, validate=None, stage="fit", **options):
        seen.append((stage, None if on is None else set(on.ids), None if validate is None else set(validate.ids)))
        return original(model, on=on, validate=validate, stage=stage, **options)

    monkeypatch.setattr(trial, "fit", spy)
    model = trained(trial, "28", folds=5, used=5, learning_rate=0.05)
    assert [stage for stage, _, _ in seen] == ["final", *(f"fold {i}" for i in range(1, 6))]
    assert seen[0][1:] == (None, None)  # all of train, validated on val
    for _, on, held_out in seen[1:]:
        assert not on & held_out
        assert on | held_out == set(trial.train.ids)
    assert set.union(*(held_out for _, _, held_out in seen[1:])) == set(trial.train.ids)
    assert model is trial.models["final"]
    assert 0 <= measures(trial)["estimated_accuracy"] <= 1


def test_the_final_model_does_not_depend_on_the_folds(make_trial):
    weights = []
    for used in (0, 1):
        trial = make_trial(train_size=40, epochs=1, folder=str(used))
        weights.append(trained(trial, "28", folds=5, used=used, learning_rate=0.05).get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_repeated_hold_outs_differ():
    first, second = (folds(20, 5, Streams(0), repeat)[0][1] for repeat in (0, 1))
    assert first.tolist() != second.tolist()


def test_the_error_of_an_estimate_is_its_distance_from_the_test_accuracy(digits, make_trial):
    trial = make_trial(epochs=1)
    model = trial.fit(models.small_cnn(trial), optimizer=optimizers.SGD(0.01))
    trial.record("estimated_accuracy", 0.75)
    row, _ = score(trial, model, trial.fits["fit"], test=digits.test())
    recorded = measures(trial)
    assert recorded["estimate_bias"] == pytest.approx(0.75 - row["test_accuracy"])
    assert recorded["estimate_error"] == pytest.approx(abs(0.75 - row["test_accuracy"]))
    searched = make_trial(epochs=1, folder="search")
    model = searched.fit(models.small_cnn(searched), optimizer=optimizers.SGD(0.01))
    searched.record("estimated_accuracy", 0.75)
    score(searched, model, searched.fits["fit"], test=None)
    assert "estimate_error" not in measures(searched)  # a search sees no test image


# --- 37: shifted images ---


def test_with_normalised_images_predictions_do_not_depend_on_brightness(make_trial):
    trial = make_trial()
    model = trained(trial, "37", augmented=False, normalisation="image", learning_rate=0.05)
    darker = (trial.val.images // 2).astype(np.uint8)
    brighter = Split.of(darker + 60, trial.val.labels, 10)
    same = trial.predict(model, darker).argmax(axis=1) == trial.predict(model, brighter).argmax(axis=1)
    assert same.all()
