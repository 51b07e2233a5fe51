"""Detection of processor, GPUs and oneDNN, from /proc/cpuinfo and nvidia-smi."""

import pathlib
import platform
import subprocess
import sys
import sysconfig

import pytest
from conftest import PROJECT

from common import machine
from common.commands import venv
from common.errors import Misuse
from common.running.environment import environment

CPUINFO = "vendor_id\t: {maker}\nmodel name\t: Some CPU\nflags\t\t: fpu {flags}\n\nmodel name\t: Other\nflags\t\t: fpu\n"
H100 = "".join(f"GPU {i}: NVIDIA H100 80GB HBM3 (UUID: GPU-{i}a70)\n" for i in range(2))
A100 = "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cc31)\n  MIG 1g.5gb      Device  0: (UUID: MIG-77ff)\n"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No GPUs, and no environment variables of the user."""
    for name in (machine.ONEDNN, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_without_cuda", lambda: True)
    yield
    machine._installed_gpus.cache_clear()


@pytest.fixture
def with_gpus(monkeypatch):
    def install(listed):
        monkeypatch.setattr(machine, "_without_cuda", lambda: False)
        done = subprocess.CompletedProcess([], 0, stdout=listed)
        monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: done)
        machine._installed_gpus.cache_clear()

    return install


@pytest.fixture
def processor(monkeypatch):
    def install(maker, flags):
        monkeypatch.setattr(machine.pathlib.Path, "read_text", lambda *_, **__: CPUINFO.format(maker=maker, flags=flags))

    return install


@pytest.mark.parametrize(
    ("maker", "flags", "kind", "lacks"),
    [
        ("GenuineIntel", "avx2", "Intel AVX2, oneDNN on", True),
        ("AuthenticAMD", "avx2", "AMD AVX2, oneDNN on", True),
        ("HygonGenuine", "avx2", "HygonGenuine AVX2, oneDNN on", True),
        ("GenuineIntel", "avx2 avx512f", "Intel AVX-512, oneDNN on", True),
        ("GenuineIntel", "avx2 avx512f avx512_vnni", "Intel AVX-512, oneDNN on", True),
        ("AuthenticAMD", "avx2 avx512f avx512_bf16", "AMD AVX-512, bfloat16, oneDNN on", False),
        ("GenuineIntel", "avx2 avx512f avx512_bf16", "Intel AVX-512, bfloat16, oneDNN on", False),
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16 amx_bf16", "Intel AVX-512, bfloat16, float16, AMX, oneDNN on", False),
    ],
)
def test_a_processors_kind_is_its_maker_its_instructions_and_onednn(processor, maker, flags, kind, lacks):
    processor(maker, flags)
    assert machine.kind() == kind
    assert machine.device() == f"Some CPU, {kind}"
    assert machine.lacks_bfloat16() is lacks


@pytest.mark.parametrize(("value", "state"), [("0", "off"), ("1", "on"), ("false", "off"), ("", "on")])
def test_the_user_may_switch_onednn(monkeypatch, processor, value, state):
    processor("GenuineIntel", "avx512f avx512_vnni")
    monkeypatch.setenv(machine.ONEDNN, value)
    assert machine.kind() == f"Intel AVX-512, oneDNN {state}"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "1", None])
def test_workers_use_onednn_unless_the_user_switches_it_off(monkeypatch, tmp_path, value):
    if value is not None:
        monkeypatch.setenv(machine.ONEDNN, value)
    code = "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
    variables = environment((1, 1, 1, True), [], tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.strip() == str(machine.uses_onednn())
    assert platform.machine() != "x86_64" or machine.uses_onednn() == (value != "0")


def test_without_cpuinfo_the_kind_comes_from_platform(monkeypatch):
    def absent(*_, **__):
        raise OSError

    monkeypatch.setattr(machine.pathlib.Path, "read_text", absent)
    assert machine.kind() == f"{platform.machine()}, oneDNN off"
    assert machine.device() == f"{platform.processor() or platform.machine()}, {machine.kind()}"
    assert machine.lacks_bfloat16() is False


def test_a_gpus_kind_is_its_model(monkeypatch, with_gpus):
    with_gpus(H100)
    assert machine.gpus() == ["0", "1"]
    assert machine.kind() == machine.device() == "NVIDIA H100 80GB HBM3"


def test_gpus_of_several_models_are_refused_unless_those_of_one_are_chosen(monkeypatch, with_gpus):
    with_gpus(H100 + A100)
    with pytest.raises(Misuse, match="choose GPUs of one model.*Received: NVIDIA A100-SXM4-40GB, NVIDIA H100 80GB HBM3"):
        machine.kind()
    a100, h100 = "NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3"
    for chosen, model in (("2", a100), ("GPU-cc", a100), ("MIG-77ff", f"{a100} MIG 1g.5gb"), ("0, 1", h100)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert machine.kind() == model


def test_gpus_count_only_where_tensorflow_can_use_them(monkeypatch, with_gpus):
    with_gpus(H100)
    assert not machine.has_unused_gpus()
    monkeypatch.setattr(machine, "_without_cuda", lambda: True)
    assert machine.gpus() == []
    assert machine.has_unused_gpus()
    assert machine.kind().endswith(("oneDNN on", "oneDNN off"))


@pytest.mark.parametrize("chosen", ["3", "0,GPU-zz", "GPU"])
def test_an_unknown_gpu_is_refused_by_name(monkeypatch, with_gpus, chosen):
    with_gpus(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    with pytest.raises(Misuse, match=f"that nvidia-smi -L lists. Received: {chosen.split(',')[-1]}"):
        machine.kind()


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("0", ["0"]),
        ("1, 0", ["1", "0"]),
        ("0,0,GPU-0a70", ["0"]),
        ("", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("NoDevFiles", []),
    ],
)
def test_the_visible_gpus_are_those_of_cuda_each_once(monkeypatch, with_gpus, chosen, names):
    with_gpus(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert machine.gpus() == names


@pytest.mark.parametrize("listed", ["", "No devices found.\n"])
def test_cuda_visible_devices_is_ignored_without_gpus(monkeypatch, with_gpus, listed):
    with_gpus(listed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert machine.gpus() == []
    assert machine.kind().endswith(("oneDNN on", "oneDNN off"))


def test_a_package_of_the_gpu_lock_tells_whether_tensorflow_can_use_gpus(monkeypatch):
    monkeypatch.undo()
    locks = {name: (PROJECT / f"requirements{name}.lock").read_text() for name in ("", "-gpu")}
    assert f"\n{machine.CUDA_PACKAGE}==" in locks["-gpu"]
    assert machine.CUDA_PACKAGE not in locks[""]
    installed = [name for name in locks if venv.problem(locks[name], pathlib.Path(sysconfig.get_path("purelib"))) == ""]
    assert machine._without_cuda() == ("-gpu" not in installed)
