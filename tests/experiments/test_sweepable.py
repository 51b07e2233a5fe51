"""`make sweep-NN` of every experiment searches something, or says in one line why not."""

import pytest

from common.commands import run as command
from common.files import experiment_scripts
from common.running import scripts

EACH = pytest.mark.parametrize("path", experiment_scripts(), ids=lambda path: path.stem)
RATE = "learning_rate"
SWEPT = {
    "03": {"searched l2": {RATE, "l2"}},
    "05": {
        f"searched {name}{epochs}": {RATE, argument}
        for name, argument in (("dropout", "dropout"), ("spatial", "spatial_dropout"))
        for epochs in ("", ", 4E")
    },
    "06": {"searched patience": {RATE, "patience"}},
    "08": {f"searched smoothing{epochs}": {RATE, "label_smoothing"} for epochs in ("", ", 4E")},
    "10": {f"{name}, searched": {RATE} for name in ("SGD", "momentum", "AdaGrad", "RMSprop", "Adam")},
    "12": {f"searched batch{equal}": {RATE, "batch_size"} for equal in ("", ", equal updates")},
    "13": {"high, searched quantile": {RATE, "quantile"}},
    "14": {"searched variance": {RATE, "variance"}},
    "16": {f"{kind}, searched batch": {RATE, "batch_size"} for kind in ("none", "batch norm", "layer norm", "group norm")},
    "18": {"searched kernel": {RATE, "kernel_size", "depth"}},
    "19": {"searched size": {RATE, "width", "depth"}},
    "26": {f"+ searched {name}": {RATE, "strength"} for name in ("MSE", "hinge", "confidence penalty", "centre")},
}
"""Number -> arms that only a sweep searches -> what is searched."""
WITHIN_ARMS = {
    **{"04": "strength", "14": "strength", "27": "tuning_rate", "31": "student_rate", "32": "gan_rate", "36": "width"},
    "39": "strength_1",
}
"""Number -> an argument that the search of trained arms includes, besides the rate."""


@EACH
def test_a_sweep_searches_the_numbers_that_arms_vary(path):
    experiment, number = scripts.read_script(path), path.stem[4:6]
    assert {arm: set(experiment.search[arm]) for arm in experiment.swept} == SWEPT.get(number, {})
    if number in WITHIN_ARMS:
        assert any(WITHIN_ARMS[number] in experiment.search[arm] for arm in experiment.search if arm in experiment.arms)


@EACH
def test_a_sweep_prints_a_plan_or_why_there_is_none(path, capsys, tmp_path):
    experiment, number = scripts.read_script(path), path.stem[4:6]
    with pytest.raises(SystemExit) as ended:
        command.main([number, "SWEEP=1", "DRY=1", f"RESULTS={tmp_path}"])
    out, error = capsys.readouterr()
    if experiment.unsearched:
        assert (ended.value.code, out, error) == (2, "", f"{path.stem}: nothing to search: {experiment.unsearched}\n")
    else:
        assert (ended.value.code, error) == (0, "")
        assert " search trials to run, about " in out.splitlines()[-1]


@EACH
def test_make_exp_trains_no_arm_of_a_sweep(path, capsys, tmp_path):
    experiment = scripts.read_script(path)
    assert not set(experiment.swept) & set(experiment.arms)
    if experiment.swept:
        arm = next(iter(experiment.swept))
        with pytest.raises(SystemExit) as ended:
            command.main([path.stem[4:6], "DRY=1", f"ARMS={arm}", f"RESULTS={tmp_path}"])
        assert ended.value.code == 2
        assert "arms must be among " in capsys.readouterr().err
