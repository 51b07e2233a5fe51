"""The environment variables of workers, which must not change results."""

import pathlib
import sys

import pytest
from survival import SCRIPT, write

from common import machine
from common.commands import reproduce
from common.errors import Misuse
from common.running import scripts
from common.running.environment import PASSED_ON, REPORTED, environment, reported_variables

DECIDES = (
    *("TF_XLA_FLAGS", "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "TF_DISABLE_MKL", "TF_NUM_INTRAOP_THREADS", "TF_CONFIG"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "GLIBC_TUNABLES", "LD_PRELOAD"),
    *("OMP_DYNAMIC", "KMP_BLOCKTIME", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"),
    *("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
    *("PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "MY_LEARNING_RATE"),
)
PINNED = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": "/scratch/keras",
    "OMP_NUM_THREADS": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "PYTHONUTF8": str(sys.flags.utf8_mode),
    "TMPDIR": "/scratch",
}


def test_variables_that_change_results_are_removed_or_fixed():
    user = {**dict.fromkeys(DECIDES, "1"), **dict.fromkeys(PINNED, "7"), "HOME": "/home/a", "LC_ALL": "C"}
    assert not PASSED_ON & {*DECIDES, *PINNED}
    got = environment((3, 1, 1, True), [], pathlib.Path("/scratch"), user)
    onednn = str(int(machine.uses_onednn()))
    kept = {"HOME": "/home/a", "LC_ALL": "C"}
    assert {**got, machine.ONEDNN: onednn} == {**PINNED, **kept, machine.ONEDNN: onednn, "KERAS_DOWNLOADS": "7"}


def test_workers_on_several_machines_get_their_addresses_from_the_engine():
    assert environment((1, 2, 2, True), [], pathlib.Path("/scratch"), {}, tf_config="{}")["TF_CONFIG"] == "{}"


def test_variables_for_data_and_devices_are_reported(monkeypatch):
    for name in REPORTED:
        monkeypatch.delenv(name, raising=False)
    assert reported_variables() == ""
    monkeypatch.setenv("CACHE_DIR", "/somebody's")
    monkeypatch.setenv(machine.ONEDNN, "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert reported_variables() == "from the environment: CACHE_DIR=/somebody's, TF_ENABLE_ONEDNN_OPTS=0"


def test_a_worker_sees_the_gpus_assigned_to_it(tmp_path):
    assert environment((1, 2, 1, True), ["2", "3"], tmp_path, {"CUDA_VISIBLE_DEVICES": "3,2"})["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_imports_that_workers_cannot_find_are_refused_when_the_script_is_read(tmp_path, monkeypatch):
    (tmp_path / "helper_of_mine.py").write_text("x = 1\n")
    path = write(tmp_path, SCRIPT.replace("import keras\n", "import keras\nimport helper_of_mine\n"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Misuse, match="exp_90_survive: ModuleNotFoundError: No module named 'helper_of_mine'"):
        scripts.read_script(path)


def test_the_library_path_is_recorded_and_compared(monkeypatch):
    from common.training import execution

    monkeypatch.delenv(machine.LIBRARIES, raising=False)
    plain = execution._versions()
    monkeypatch.setenv(machine.LIBRARIES, "/opt/lib")
    assert execution._versions() == f"{plain}, LD_LIBRARY_PATH /opt/lib"
    assert environment((1, 1, 1, True), [], pathlib.Path("/scratch"))[machine.LIBRARIES] == "/opt/lib"
    assert "versions" in reproduce.CONTEXT


def test_a_worker_finds_the_users_downloads_of_keras(tmp_path, monkeypatch):
    from common.training.adapters import keras_folder

    monkeypatch.delenv("KERAS_DOWNLOADS", raising=False)
    for user, folder in (({"KERAS_HOME": str(tmp_path)}, tmp_path), ({}, pathlib.Path("~/.keras").expanduser())):
        monkeypatch.setenv("KERAS_DOWNLOADS", environment((1, 1, 1, True), [], tmp_path / "scratch", user)["KERAS_DOWNLOADS"])
        assert keras_folder() == folder
