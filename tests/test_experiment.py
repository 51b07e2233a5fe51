import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT

from common import tasks
from common.claims import each, interaction, less, not_worse, overfits_less, same, sooner
from common.errors import Misuse
from common.experiment import Claim, Experiment, Setting
from common.space import choice, log_range, shared
from common.text import Unit

SETTING = Setting("cifar10", epochs=20, batch_size=128)
QUICK = Setting("digits", epochs=20, batch_size=32, train_size=300)
SEARCH = {"l2": log_range(1e-4, 1e-2)}
BETTER = Claim("b is better", id="b-better", better="b", worse="baseline", margin=0.1)


def train(trial, *, l2=0.0):
    """Never run."""


def experiment(**options):
    return Experiment(train, **{"arms": {"baseline": {}, "b": {"l2": 1.0}}, "setting": SETTING, "quick": QUICK, **options})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1. Received: 0"),
        ({"epochs": 1.5}, "Received: 1.5"),
        ({"batch_size": -3}, "batch_size must .* Received: -3"),
        ({"train_size": 0}, "train_size must .* Received: 0"),
        ({"colour": "blue"}, "Received: 'blue'"),
        ({"colour": "gray"}, r"Received: 'gray' \(did you mean 'grey'\?\)"),
        ({"precision": "half"}, "Received: 'half'"),
        ({"precision": "mixed_float"}, r"Received: 'mixed_float' \(did you mean 'mixed_float16'\?\)"),
        ({"vary": ("shuffle",)}, "Received: 'shuffle'"),
        ({"vary": ("ordre",)}, r"Received: 'ordre' \(did you mean 'order'\?\)"),
        ({"imbalance": 0.5}, "imbalance must be at least 1. Received: 0.5"),
        ({"label_noise": 1.0}, "label_noise must lie between 0 and 1. Received: 1.0"),
        ({"classes": (3,)}, "at least two different ones"),
        ({"classes": "01"}, "as whole numbers. Received: '01'"),
        ({"classes": [0.5, 1]}, r"as whole numbers. Received: \(0.5, 1\)"),
        ({"classes": [True, False]}, "as whole numbers"),
        ({"xla": True}, "xla needs deterministic=False"),
    ],
)
def test_an_impossible_setting_is_refused(changes, message):
    with pytest.raises(Misuse, match=message):
        SETTING.replace(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"arms": {"first": {}}},
            "the first arm must be the baseline: call it 'baseline', or set .* None .* Received: 'first'",
        ),
        ({"arms": {"baseline": {"l_2": 1}}}, r"arm 'baseline' does not fit train.*'l_2' \(did you mean 'l2'\?\)"),
        ({"arms": {"baseline": {"batchsize": 8}}}, r"'batchsize' \(did you mean 'batch_size'\?\)"),
        ({"task": "rotate"}, r"task must be one of common.tasks. Received: 'rotate' \(did you mean 'rotated'\?\)"),
        ({"arms": {"baseline": {"l2": object()}}}, "for l2 write a number, string, list or dict, .* Received: <object"),
        (
            {"arms": {"baseline": {"l2": {3: 0.5}}}},
            r"arm 'baseline' must hold plain values, .*: for l2 write strings as keys, .* Received: 3 in \{3: 0.5\}",
        ),
        ({"arms": {"baseline": {"l2": {True: 0.5}}}}, "strings as keys, .* Received: True"),
        ({"arms": {"baseline": {"l2": [(1, 2)]}}}, r"for l2 write a list. Received: \(1, 2\) in \[\(1, 2\)\]"),
        ({"arms": {"baseline": {"l2": {1, 2}}}}, "for l2 write a list"),
        ({"arms": {"baseline": {"l2": float("nan")}}}, "for l2 write None or a finite number. Received: nan"),
        ({"arms": {"baseline": {"l2": [float("inf")]}}}, "finite number. Received: inf"),
        ({"arms": {"baseline": {"l2": np.float64(0.1)}}}, r"as \.tolist\(\) gives it. Received: np.float64"),
        ({"arms": {"baseline": {"l2": np.arange(2)}}}, r"as \.tolist\(\) gives it. Received: array"),
        ({"arms": {"baseline": {"classes": [np.int64(1), 2]}}}, r"for classes .*as \.tolist\(\)"),
        ({"setting": SETTING.replace(classes=(np.int64(1), 2))}, r"a setting must hold .*: for classes .*as \.tolist\(\)"),
        ({"setting": SETTING.replace(imbalance=float("inf"))}, "for imbalance write None or a finite number"),
        (
            {"search": {"l2": choice((8, 16), (16, 32))}},
            r"the search of arm 'baseline' .*: for l2 write a list\. .*\(8, 16\)",
        ),
        ({"search": {"l2": choice(0.1, np.float32(0.2))}}, "for l2 write a plain number"),
        ({"search": {"l2": 0.1}}, "a search takes log_range, linear_range or choice. Received: 0.1"),
        ({"search": SEARCH, "tuner": "randm"}, r"tuner must be one of .* 'randm'\} \(did you mean 'random'\?\)"),
        ({"search": SEARCH, "tuner": {"b": "grid"}}, r"or a dict with one for each searched arm. Received: \{'b': 'grid'\}"),
        ({"search": SEARCH, "points": 0}, "points must be a whole number, at least 1. Received: 0"),
        ({"search": shared(**SEARCH, arms={"baseline": SEARCH})}, "put another arm first. Received: 'baseline'"),
        ({"search": shared(**SEARCH), "arms": {"baseline": {"l2": 0.0}}}, "put another arm first. Received: 'baseline'"),
        ({"search": shared(**SEARCH), "tuner": "random"}, "a shared search uses the grid: .* Received: tuner='random'"),
        ({"sweep": {"any": {"l2": 0.1}}}, "an arm of sweep needs log_range, linear_range or choice .* Received: 'any'"),
        ({"sweep": {"b": SEARCH}}, "an arm of sweep needs a name that no arm has. Received: 'b'"),
        ({"sweep": {"a b": SEARCH, "a_b": SEARCH}}, "arm names must differ in more than punctuation"),
        ({"sweep": SEARCH}, "sweep must be a dict of arms: .* Received: "),
        ({"sweep": {"any": SEARCH | {"l_2": 1}}}, r"arm 'any' does not fit train.*'l_2' \(did you mean 'l2'\?\)"),
        ({"sweep": {"any": {"l2": choice((8, 16))}}}, r"the sweep of 'any' must hold plain values, .*\(8, 16\)"),
        (
            {"sweep": "rates are fixed", "search": SEARCH},
            "says why nothing is searched, in .* without search. Received: 'rates are",
        ),
        ({"sweep": "two\nlines"}, "is one line that says why nothing is searched"),
        ({"quick": "digits"}, "quick must be a Setting: .* Received: 'digits'"),
        ({"claims": "b is better"}, "claims must be a list of Claim.* Received: 'b is better'"),
        ({"arms": {"baseline": {"epochs": 0}}}, "epochs must be"),
        ({"arms": {"baseline": {}, "a b": {}, "a_b": {}}}, "differ in more than punctuation"),
        ({"arms": {"baseline": {}, "None": {}}}, "read them as missing"),
        ({"arms": {"baseline": {}, "<NA>": {}}}, "read them as missing"),
        ({"arms": {"baseline": {}, "labels": {}}}, "files of rows use otherwise. Received: 'labels'"),
        ({"arms": {"baseline": {}, 3: {}}}, "with texts as names. Received: 3"),
        ({"arms": {"baseline": {}, "l2": {}}, "search": SEARCH}, "not be called like a searched argument.*Received: 'l2': Range"),
        ({"search": {"batch_size": log_range(8, 64, whole=True)}}, "a field of Setting is searched in an arm of sweep"),
        ({"arms": {}, "baseline": None}, "an experiment needs arms"),
        ({"arms": {"baseline": {}, "b": {"train_size": -0.5}}}, "above 0 and at most 1. Received: -0.5"),
        ({"arms": {"baseline": {}, "b": {"train_size": 1.5}}}, "above 0 and at most 1. Received: 1.5"),
        ({"task": dataclasses.replace(tasks.classification)}, "must be one of common.tasks"),
        (
            {"claims": [Claim("x", "b", "baseline", 2, id="x", metric="gap", lower_is_better=True)]},
            "the gap is one of fractions .*Received: 2",
        ),
        ({"arms": {"baseline": {}, "16": {}}}, "must not be a number"),
        ({"seeds": 0}, "seeds must be a whole number, at least 1"),
        ({"seeds": 2.5}, "seeds must be a whole number, at least 1. Received: 2.5"),
        (
            {"claims": [Claim("x", id="x", better="c", worse="baseline", margin=0.1)]},
            "a claim must name arms .*: 'x'. Received: 'c'",
        ),
        (
            {"claims": [Claim("x", id="x", better="b", worse="basline", margin=0.1)]},
            r"Received: 'basline' \(did you mean 'baseline'\?\)",
        ),
        (
            {"claims": [Claim(text, id="helps", better="b", worse="baseline", margin=0.1) for text in ("it helps", "it does")]},
            "the ids of claims must be unique. Received twice: 'helps'",
        ),
        ({"about": ["test_nll"]}, "about must be metrics of its claims: none. Received: 'test_nll'"),
        (
            {"claims": [less("b is sooner", "b", "baseline", "seconds", 1, id="b-sooner")], "about": ["second"]},
            r"about must be metrics of its claims: seconds. Received: 'second' \(did you mean 'seconds'\?\)",
        ),
        (
            {
                "claims": [less("b is sooner", "b", "baseline", "seconds", 1, id="s"), BETTER],
                "about": ["test_accuracy", "seconds"],
            },
            "it must be about test_accuracy: put that claim first. Received: 'b is sooner', about seconds",
        ),
    ],
)
def test_an_impossible_declaration_is_refused(options, message):
    with pytest.raises(Misuse, match=message):
        experiment(**options)


def momentum_and_l2(trial, *, l2=0.0, momentum=0.0, rate=0.1):
    """Never run."""


def swept(**options):
    arms = {"baseline": {}, "b": {"l2": 1.0}}
    return Experiment(momentum_and_l2, arms=arms, setting=SETTING, **options)


def test_an_arm_of_a_sweep_is_searched_with_what_is_searched_for_all_arms():
    rate, momentum = log_range(0.01, 1), {"momentum": log_range(0.1, 0.9)}
    alike = {
        "shared": shared(rate=rate),
        "separate": {"rate": rate},
        "built": lambda hp: hp.Float("rate", 0.01, 1, sampling="log"),
    }
    for search in alike.values():
        one = swept(search=search, sweep={"any": momentum, "any at 0.1": momentum | {"rate": 0.1}})
        assert [set(one.searched_by(arm)) for arm in ("any", "any at 0.1")] == [{"rate", "momentum"}, {"momentum"}]
        assert (one.arguments("any"), one.arguments("any at 0.1")) == ({}, {"rate": 0.1})
    for search in ({"b": {"rate": rate}}, shared(l2=SEARCH["l2"], arms={"b": {"rate": rate}}), None):
        one = swept(search=search, sweep={"any": momentum | {"l2": 0.1}})
        assert one.searched_by("any") == momentum


def test_a_sweep_changes_nothing_of_the_trained_arms():
    search = shared(rate=log_range(0.01, 1), arms={"b": {"momentum": log_range(0.1, 0.9)}})
    plain, more = (
        swept(search=search, tuner={"b": "random"}),
        swept(
            search=search,
            tuner={"b": "random"},
            sweep={"any": {"l2": log_range(1e-4, 1), "batch_size": log_range(8, 64, whole=True)}},
        ),
    )
    assert (more.arms, more.shared, more.settings) == (plain.arms, plain.shared, plain.settings)
    for arm in plain.arms:
        assert (more.searched_by(arm), more.tuner.get(arm)) == (plain.searched_by(arm), plain.tuner.get(arm))
    assert (plain.swept, list(more.swept), more.tuner["any"]) == ({}, ["any"], "halton")
    assert (more.unsearched, swept(sweep="rates are fixed").unsearched) == ("", "rates are fixed")


def test_an_argument_of_train_must_not_be_a_field_of_setting():
    def both(trial, *, epochs):
        """Never run."""

    with pytest.raises(Misuse, match="an argument of train must not be called like a field of Setting. Received: 'epochs'"):
        Experiment(both, arms={"baseline": {}}, setting=SETTING)


def declared(**options):
    one = experiment(**options)
    return one.declare(one.select())


def under(one, arm, **overrides):
    """An arm's setting under the full one, with what the user overrides."""
    selected = one.select("full", overrides)
    return one.arm_setting(arm, selected.setting, selected)


def test_arms_set_arguments_and_fields_whatever_the_user_overrides():
    """Otherwise BATCH=4 would make arms of 8 and of 128 the same, under their names."""
    one = experiment(arms={"baseline": {}, "small": {"batch_size": 8, "l2": 0.5}})
    assert one.arguments("small") == {"l2": 0.5}
    assert [under(one, arm, batch_size=4).batch_size for arm in one.arms] == [4, 8]


def test_an_override_of_what_each_arm_sets_is_refused():
    sizes = {"baseline": {"batch_size": 8, "train_size": 0.5}, "large": {"batch_size": 128, "train_size": 0.1}}
    one = experiment(arms=sizes)
    with pytest.raises(Misuse, match="each arm sets its batch_size, so BATCH has no effect: leave it out. Received: 4"):
        one.select("full", {"batch_size": 4})
    assert under(one, "large", train_size=2000).train_size == 200  # a share
    numbers = experiment(arms={"baseline": {"train_size": 10, "epochs": 20}, "more": {"train_size": 20, "epochs": 40}})
    with pytest.raises(Misuse, match="so TRAIN has no effect"):
        numbers.select("full", {"train_size": 5})
    assert under(numbers, "more", epochs=1).epochs == 2  # a ratio
    assert numbers.select("full", {"train_size": 5}, smoke=True).setting.train_size == 5


def test_an_arms_epochs_keep_their_ratio_under_other_epochs():
    one = experiment(arms={"baseline": {}, "longer": {"epochs": 60}})  # of 20
    assert [under(one, "longer", epochs=n).epochs for n in (20, 2, 5)] == [60, 6, 15]
    assert under(one, "baseline", epochs=2).epochs == 2


def test_an_arms_epochs_as_a_float_are_a_multiple_of_the_settings_epochs():
    one = experiment(arms={"baseline": {}, "4E": {"epochs": 4.0}, "half": {"epochs": 0.5}}, small=Setting("cifar10", epochs=8))
    assert [one.arm_setting("4E", s.setting, s).epochs for s in map(one.select, ("small", "full"))] == [32, 80]
    assert [under(one, "4E", epochs=n).epochs for n in (2, 5)] == [8, 20]
    assert under(one, "half", epochs=1).epochs == 1  # at least one
    assert one.arm_setting("4E", (smoke := one.select("full", smoke=True)).setting, smoke).epochs == 1
    for epochs in (0.0, -1.0):
        with pytest.raises(Misuse, match=f"a multiple of the setting's, above 0. Received: {epochs}"):
            experiment(arms={"baseline": {}, "4E": {"epochs": epochs}})


def test_an_arms_share_of_the_images_refers_to_the_settings_images():
    one = experiment(arms={"baseline": {}, "a tenth": {"train_size": 0.1}})
    assert under(one, "a tenth").train_size == 0.1  # of all there are
    assert under(one, "a tenth", train_size=2000).train_size == 200
    small = one.select("small")
    assert one.arm_setting("a tenth", small.setting, small).train_size == 500


@pytest.mark.parametrize(
    ("name", "overrides", "smoke", "folder", "demonstration"),
    [
        (None, {}, False, "quick-digits", True),
        ("small", {}, False, "small-cifar10", False),
        ("full", {}, False, "full-cifar10", False),
        ("full", {"epochs": 5, "train_size": 10000}, False, "full-cifar10-epochs=5-train=10000", True),
        ("full", {"epochs": 20}, False, "full-cifar10", False),  # as declared
        ("full", {"dataset": "mnist"}, False, "full-mnist", False),
        ("full", {"dataset": "digits"}, False, "full-digits", True),
        ("quick", {"dataset": "mnist"}, False, "quick-mnist", True),
        (None, {"epochs": 3}, False, "quick-digits-epochs=3", True),
        (None, {}, True, "quick-digits-smoke", True),
        ("small", {"epochs": 7}, True, "small-cifar10-smoke-epochs=7", True),
    ],
)
def test_a_folders_name_holds_the_setting_and_the_overrides(name, overrides, smoke, folder, demonstration):
    one = experiment()
    selected = one.select(name, overrides, smoke=smoke)
    assert selected.folder_name(selected.setting.dataset) == folder
    assert one.declare(selected)["demonstration"] is demonstration


def test_a_debug_call_has_a_separate_folder_and_one_seed():
    one = experiment()
    selected = one.select("full", {"epochs": 3}, debug=True)
    assert selected.setting == one.select("full", {"epochs": 3}).setting
    assert selected.folder_name("cifar10") == "full-cifar10-debug-epochs=3"
    assert (one.declare(selected)["seeds"], one.declare(one.select("full", debug=True))["demonstration"]) == (1, True)


def test_replicas_that_each_arm_sets_are_not_shared_among_machines():
    one = experiment(arms={"baseline": {"replicas": 1}, "two": {"replicas": 2}})
    with pytest.raises(Misuse, match="each arm sets its replicas: leave WORKERS out. Received: WORKERS=2"):
        one.select("full", {"workers": 2, "replicas": 2})


def test_an_override_that_changes_nothing_is_the_declared_setting():
    """Also where arms set the field, which hold whatever the user sets."""
    one = experiment(arms={"baseline": {}, "long": {"epochs": 40}, "large": {"batch_size": 512}})
    selected = one.select("full", {"epochs": 20, "batch_size": 128})
    assert selected.folder_name("cifar10") == "full-cifar10"
    assert not one.declare(selected)["demonstration"]


def test_small_settings_score_1000_validation_images_per_epoch_unless_they_declare_a_number():
    for small, expected in ((None, 1000), (Setting("mnist", 3), 1000), (Setting("mnist", 3, val_per_epoch=50), 50)):
        one = experiment(small=small)
        per_epoch = [one.settings[name].val_per_epoch for name in ("quick", "small", "full")]
        assert per_epoch == [None, expected, None]


def test_a_dataset_selects_the_setting_that_declares_it_or_the_small_one():
    one = experiment(small=Setting("mnist", epochs=3))
    chosen = [one.select(None, {"dataset": name}).name for name in ("digits", "mnist", "cifar10", "fashion_mnist", "my/images")]
    assert chosen == ["quick", "small", "full", "small", "small"]
    assert one.select("quick", {"dataset": "mnist"}).name == "quick"


def test_the_default_small_setting_is_the_full_one_reduced():
    full = Setting("mnist", epochs=20, batch_size=128, image_size=14)
    reduced = Setting("mnist", epochs=18, train_size=5000, image_size=14, val_per_epoch=1000)
    assert experiment(setting=full).settings["small"] == reduced
    few = full.replace(epochs=4, batch_size=16, train_size=250)
    assert experiment(setting=few).settings["small"] == few.replace(val_per_epoch=1000)


def test_claims_may_have_margins_of_numpy_and_the_names_of_a_dict():
    claim = Claim("x", {"a": 1, "b": 2}.keys(), "c", np.float32(0.5), id="x")
    assert (claim.better, claim.margin, type(claim.margin)) == (["a", "b"], 0.5, float)
    with pytest.raises(Misuse, match="margin must be above 0"):
        Claim("x", "a", "b", True, id="x")
    assert not Claim("x", "a", "b", 0.1, id="x", metric="voice_piece").lower_is_better
    with pytest.raises(Misuse, match="must say lower_is_better"):
        Claim("x", "a", "b", 0.1, id="x", metric="probe loss")


def test_claims_without_a_direction_need_not_say_one():
    assert not Claim("x", "a", "b", 0.1, id="x", kind="same", metric="test_nll").lower_is_better
    assert not Claim("x", "a", "b", 0.1, id="x", metric="test_nll", lower_is_better=False).lower_is_better
    assert Claim("x", ["a", "b", "c"], ["d", "e", "f"], 1.5, id="x", kind="flatness", metric="test_accuracy", within=0.02)


def test_a_claims_default_kind_and_datasets():
    assert Claim("x", id="x", better="a", worse="b", margin=0.1).kind == "superiority"
    assert Claim("x", id="x", better=["a", "c"], worse="b", margin=0.1).kind == "best of family"
    about = Claim("x", id="x", better="b", worse="baseline", margin=0.1)
    assert experiment(claims=[about]).claims[0].datasets == ("cifar10",)
    assert experiment(claims=[about], datasets=["cifar10", "mnist"]).claims[0].datasets == ("cifar10", "mnist")
    with pytest.raises(Misuse, match="datasets must be a list of names. Received: 'mnist'"):
        experiment(claims=[about], datasets="mnist")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"margin": 0}, "margin must be above 0"),
        ({"margin": math.inf}, "margin must be above 0, and finite: 'x'. Received: inf"),
        ({"margin": 1.5, "metric": "test_accuracy"}, "below 1, as test_accuracy is a fraction .*Received: 1.5"),
        ({"kind": "overfits less", "within": math.nan}, "within must be above 0"),
        ({"kind": "overfits less", "within": -1.0}, "within must be above 0"),
        ({"metric": "gap"}, "about gap must say lower_is_better=True .*or False: 'x'. Received: neither"),
        ({"metric": "test_nll", "kind": "not worse"}, "about test_nll must say lower_is_better"),
        ({"better": {"a", "c"}}, "compares an arm or a list of arms: 'x'. Received: {"),
        ({"kind": "better"}, "kind must be one of"),
        ({"kind": "interaction"}, "does not take 1 better and 1 worse arms"),
        ({"kind": "same", "better": ["a", "c"]}, "does not take 2 better and 1 worse arms"),
        ({"kind": "same", "better": "b"}, r"must compare different arms: 'x'\. Received: \['b', 'b'\]"),
        ({"better": ["a", "b"]}, r"Received: \['a', 'b', 'b'\]"),
        ({"kind": "interaction", "better": ["a", "a"], "worse": ["b", "c"]}, "must compare different arms"),
        ({"kind": "interaction", "better": ["a", "b"], "worse": ["a", "b"]}, "must compare different arms"),
        (
            {"kind": "interaction", "better": ["a", "b"], "worse": ["a", "c"], "metric": "survival"},
            "about survival compares two arms: 'x'. Received: kind 'interaction'",
        ),
        ({"datasets": "cifar100"}, "datasets must be a list of names: 'x'. Received: 'cifar100'"),
    ],
)
def test_an_impossible_claim_is_refused(wrong, message):
    with pytest.raises(Misuse, match=message):
        Claim(**{"text": "x", "id": "x", "better": "a", "worse": "b", "margin": 0.1, **wrong})


@pytest.mark.parametrize("wrong", ["", "L2-helps", "l2_helps", "l2 helps", "-l2", "l2-", "l2--helps", "x" * 25, None, 3])
def test_a_malformed_id_of_a_claim_is_refused(wrong):
    with pytest.raises(Misuse, match=f"at most 24 lower case letters, digits and hyphens .* Received: {wrong!r}"):
        Claim("x", id=wrong, better="a", worse="b", margin=0.1)


def test_helpers_make_the_same_claims_as_written_out():
    assert less("a has less", "a", "b", "seconds", 0.1, id="less") == Claim(
        "a has less", "a", "b", 0.1, id="less", metric="seconds", lower_is_better=True
    )
    assert not_worse("fine", "a", "b", id="fine") == Claim("fine", "a", "b", 0.02, id="fine", kind="not worse")
    assert same("alike", "a", "b", id="alike") == Claim("alike", "a", "b", 0.02, id="alike", kind="same")
    bias = Claim("as biased", "a", "b", 0.02, id="bias", kind="same", metric="estimate_bias")
    assert same("as biased", "a", "b", id="bias", metric="estimate_bias") == bias
    assert sooner("soon", "a", "b", id="soon") == Claim("soon", "a", "b", 1, id="soon", metric="epochs_to_target", target=0.9)
    pairs = ["a", "b"], ["c", "d"]
    assert interaction("more", *pairs, id="more") == Claim("more", *pairs, 0.015, id="more", kind="interaction")
    fields = {"kind": "overfits less", "metric": "gap", "lower_is_better": True, "within": 0.02}
    assert overfits_less("a", "b", id="a") == Claim("'a' overfits less than 'b'", "a", "b", 0.015, id="a", **fields)


def test_a_claim_states_its_margin():
    text = {"id": "a", "text": "a helps", "better": "a", "worse": "b", "margin": 0.015}
    family = {"better": ["a", "c"]}
    for fields, statement in (
        ({}, "a helps, by at least 0.015"),
        (family, "a helps, by at least 0.015"),
        ({"kind": "same"}, "a helps, within 0.015"),
        ({"kind": "not worse"}, "a helps, up to 0.015"),
        ({"margin": 0.01}, "a helps, by at least 0.01"),
        ({"margin": 1_000_000}, "a helps, by at least 1,000,000"),
        (
            {"kind": "overfits less", "within": 0.02},
            "a helps: a gap smaller by at least 0.015, a score worse by less than 0.02",
        ),
    ):
        assert Claim(**text | fields).statement(Unit("test accuracy")) == statement


def test_margins_of_accuracy_are_finer_on_mnist():
    claims = [
        Claim("a helps", "b", "baseline", 0.015, id="helps"),
        same("a is b", "b", "baseline", id="same"),
        overfits_less("b", "baseline", id="less"),
        less("a is faster", "b", "baseline", "seconds", 0.1, id="faster"),
    ]
    mnist, cifar10 = (Setting(dataset, epochs=20, batch_size=128) for dataset in ("mnist", "cifar10"))
    one = experiment(setting=mnist, small=cifar10, claims=claims)
    margins = {name: [claim["margin"] for claim in one.declare(one.select(name))["claims"]] for name in ("small", "full")}
    assert margins == {"small": [0.015, 0.02, 0.015, 0.1], "full": [0.005, 0.005, 0.005, 0.1]}
    assert one.declare(one.select("full"))["claims"][2]["within"] == 0.005
    arms = {"baseline": {}, "b": {}, "c": {"dataset": "mnist"}, "d": {"dataset": "mnist"}}
    there = experiment(arms=arms, setting=cifar10, claims=[*claims, same("c is d", "c", "d", id="same-there")])
    assert [claim["margin"] for claim in there.declare(there.select("full"))["claims"]] == [0.015, 0.02, 0.015, 0.1, 0.005]


def test_each_makes_a_claim_per_name():
    assert each(("flip", "All 4"), "{} helps", "{}, long", "none, long", 0.1, id="{} helps", metric="test_recall") == [
        Claim("flip helps", "flip, long", "none, long", 0.1, id="flip-helps", metric="test_recall"),
        Claim("All 4 helps", "All 4, long", "none, long", 0.1, id="all-4-helps", metric="test_recall"),
    ]
    (claim,) = each(["flip"], "{} helps more", ["{}, long", "{}"], ["none, long", "none"], 0.1, id="{}", kind="interaction")
    assert (claim.better, claim.worse) == (["flip, long", "flip"], ["none, long", "none"])


def test_an_experiment_may_ask_for_more_figures():
    assert declared(figures=["mistakes"])["figures"] == ["mistakes"]
    assert declared()["figures"] == []
    with pytest.raises(
        Misuse, match=r"figures must be among steps, mistakes, profiles. Received: 'step' \(did you mean 'steps'\?\)"
    ):
        experiment(figures=["step"])


def test_a_claim_is_about_the_tasks_primary_metric():
    claim = Claim("b is better", id="b-better", better="b", worse="baseline", margin=0.5)
    (of_classes,), (of_angles,) = (experiment(claims=[claim], task=task).claims for task in (tasks.classification, tasks.rotated))
    assert (of_classes.metric, of_classes.lower_is_better) == ("test_accuracy", False)
    assert (of_angles.metric, of_angles.lower_is_better) == ("test_error", True)
    task = declared(task=tasks.rotated)["task"]
    assert (task["metric"], task["lower_is_better"]) == ("error", True)


def test_a_question_is_about_the_metric_of_the_first_claim_unless_it_names_others():
    sooner_claim = less("b is sooner", "b", "baseline", "seconds", 1, id="b-sooner")
    assert declared()["about"] == []
    assert declared(claims=[sooner_claim, BETTER])["about"] == ["seconds"]
    assert declared(claims=[sooner_claim, BETTER], about=["seconds", "test_accuracy"])["about"] == ["seconds", "test_accuracy"]


OWN_DATA = {"a": {"dataset": "cifar10"}, "m": {"dataset": "mnist", "l2": 1.0}, "z": {}}


@pytest.mark.parametrize(
    ("name", "overrides", "datasets", "demonstration"),
    [
        ("small", {}, ["cifar10", "mnist", "fashion_mnist"], False),
        ("full", {}, ["cifar10", "mnist"], False),
        ("quick", {}, ["digits"], True),
        ("small", {"dataset": "mnist"}, ["mnist"], True),
        (None, {"dataset": "cifar10"}, ["cifar10"], True),
        ("quick", {"dataset": "mnist"}, ["mnist"], True),
    ],
)
def test_arms_choose_their_dataset_unless_the_setting_is_quick_or_the_user_chooses(name, overrides, datasets, demonstration):
    one = experiment(arms=OWN_DATA, baseline=None, small=Setting("fashion_mnist", epochs=3))
    selected = one.select(name, overrides)
    of_arms = [one.arm_setting(arm, selected.setting, selected).dataset for arm in OWN_DATA]
    assert list(dict.fromkeys(of_arms)) == one.datasets(selected) == datasets
    assert one.declare(selected)["demonstration"] is demonstration


def test_a_claim_is_about_the_dataset_that_its_arms_choose_and_about_one_alone():
    def claims(better, worse):
        return [Claim("x", id="x", better=better, worse=worse, margin=0.1)]

    arms = {**OWN_DATA, "n": {"dataset": "mnist"}, "two": {"classes": [0, 1]}}
    (claim,) = experiment(arms=arms, baseline=None, claims=claims("m", "n")).claims
    assert claim.datasets == ("mnist",)
    for better, worse, name in (("m", "a", "dataset"), ("z", "a", "dataset"), ("two", "z", "classes")):
        with pytest.raises(
            Misuse, match=f"a claim must compare arms on the same {name}: 'x'. Received: {better!r} and {worse!r}"
        ):
            experiment(arms=arms, baseline=None, claims=claims(better, worse))


@pytest.mark.slow
@pytest.mark.parametrize("started", [["-m", "experiments.exp_03_l2"], [str(PROJECT / "experiments" / "exp_03_l2.py")]])
def test_a_script_runs_by_itself_from_anywhere(tmp_path, started):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *started, "--dry", "--seeds", "2", "--results", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "search trials to run, up to 9 more (not counting wider ranges), then at most 10 with the chosen values" in done.stdout
    assert (tmp_path / "out").is_dir()  # below the caller's folder
