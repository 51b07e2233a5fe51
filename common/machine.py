"""Processor, GPUs and oneDNN of this machine, detected without importing TensorFlow."""

import contextlib
import functools
import importlib.metadata
import itertools
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from common.errors import Misuse

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""Environment variable that switches oneDNN on or off."""
LIBRARIES = "LD_LIBRARY_PATH"
"""Environment variable with the first folders that libraries are loaded from; part of a row's `versions` where it is set."""
CUDA_PACKAGE = "nvidia-cudnn-cu12"
"""A package that TensorFlow needs for GPUs, and that requirements-gpu.lock has."""
NO_GPU = ("NoDevFiles", "none", "void")
"""Values of `CUDA_VISIBLE_DEVICES` by which job schedulers hide all GPUs."""
VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}
"""Makers of processors: name in /proc/cpuinfo -> name in a kind."""
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Vector instructions, widest first: flag of the processor -> name."""
HALF_PRECISION = {"bfloat16": {"avx512_bf16", "amx_bf16"}, "float16": {"avx512_fp16"}, "AMX": {"amx_bf16"}}
"""Instructions for half precision, each with kernels in oneDNN whose results differ: name -> any of these flags."""


class Gpu(NamedTuple):
    """A GPU of this machine, or a MIG instance of one, which has no index."""

    index: str
    uuid: str
    model: str


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Memory that processes can still get, in bytes; None on other systems than Linux."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError):
        return None


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since this machine started; 0 on other systems than Linux."""
    try:
        text = pathlib.Path("/proc/vmstat").read_text(encoding="utf-8")
        return int(text.split("oom_kill ")[1].split()[0])
    except (OSError, IndexError):
        return 0


def gpus() -> list[str]:
    """Indices or UUIDs of the GPUs that this process may use; empty if TensorFlow is installed without CUDA.

    `CUDA_VISIBLE_DEVICES` is read as CUDA reads it: a negative number hides those after it. Repeated GPUs count once, and on a
    machine without GPUs the variable is ignored.

    Raises:
        Misuse: the variable names a GPU that this machine does not have.
    """
    if _without_cuda() or not _installed_gpus():
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [gpu.index for gpu in _installed_gpus() if gpu.index]
    names = [name.strip() for name in chosen.split(",")]
    visible = list(itertools.takewhile(lambda name: name not in NO_GPU and not name.startswith("-"), filter(None, names)))
    return list({_installed(name).uuid: name for name in reversed(visible)}.values())[::-1]


def has_unused_gpus() -> bool:
    """Whether this machine has GPUs that TensorFlow cannot use, since it is installed without CUDA."""
    return _without_cuda() and bool(_installed_gpus())


def _without_cuda() -> bool:
    """Whether the CUDA packages of requirements-gpu.lock are not installed."""
    try:
        importlib.metadata.distribution(CUDA_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


@functools.cache
def _installed_gpus() -> tuple[Gpu, ...]:
    """The GPUs and their MIG instances that `nvidia-smi -L` lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    listed: list[Gpu] = []
    for line in done.stdout.splitlines():
        if whole := re.match(r"GPU (\d+): (.+) \(UUID: (\S+)\)", line):
            listed.append(Gpu(whole[1], whole[3], whole[2]))
        elif (part := re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (\S+)\)", line)) and listed:
            listed.append(Gpu("", part[2], f"{listed[-1].model.partition(' MIG ')[0]} {part[1]}"))
    return tuple(listed)


def _installed(name: str) -> Gpu:
    """The GPU with this index, UUID or unique beginning of a UUID. Raises `Misuse` if there is none, or several."""
    matches = [gpu for gpu in _installed_gpus() if name == gpu.index or (len(name) > 4 and gpu.uuid.startswith(name))]
    if len(matches) != 1:
        raise Misuse(f"CUDA_VISIBLE_DEVICES must name GPUs that nvidia-smi -L lists. Received: {name}")
    return matches[0]


def columns() -> dict[str, str]:
    """The columns `device` and `kind` of the rows of trials on this machine."""
    return {"device": device(), "kind": kind()}


def device() -> str:
    """Model of the GPU that trials run on, or name and kind of the processor: for the column `device` of the rows."""
    return kind() if gpus() else f"{_processor_name()}, {kind()}"


def kind() -> str:
    """The properties of the hardware on which the bits of a result depend: for the column `kind` of the rows.

    Of a processor its maker, since square roots and divisions start from approximate instructions that Intel and AMD implement
    differently; the widest vector instructions, those for half precision, and whether TensorFlow uses oneDNN. Of a GPU its model.

    Raises:
        Misuse: GPUs of different models, whose trials could not be compared.
    """
    names = gpus()
    if names:
        models = sorted({_installed(name).model for name in names})
        if len(models) > 1:
            raise Misuse(
                "all trials must run on one model of GPU: choose GPUs of one model by CUDA_VISIBLE_DEVICES=…. "
                f"Received: {', '.join(models)}"
            )
        return models[0]
    flags = set(_processor_flags() or ())
    widest = next((name for flag, name in WIDEST.items() if flag in flags), platform.machine() or "unknown")
    maker = _processor_facts().get("vendor_id", "")
    vector = f"{VENDORS.get(maker, maker)} {widest}".strip()
    half = [name for name, any_of in HALF_PRECISION.items() if any_of & flags]
    return ", ".join([vector, *half, f"oneDNN {'on' if uses_onednn() else 'off'}"])


def uses_onednn() -> bool:
    """Whether workers use oneDNN: as `TF_ENABLE_ONEDNN_OPTS` says, by default on x86 processors.

    TensorFlow's default is off for processors without AVX512_VNNI or AMX, where an update takes twice as long without it.
    """
    setting = os.environ.get(ONEDNN, "").strip().lower()
    return setting in ("1", "true") or (setting not in ("0", "false") and _processor_flags() is not None)


def lacks_bfloat16() -> bool:
    """Whether the processor has no bfloat16 instructions, so that it converts to float32; False if that is unknown."""
    flags = _processor_flags()
    return flags is not None and not HALF_PRECISION["bfloat16"].intersection(flags)


def _processor_name() -> str:
    return _processor_facts().get("model name") or platform.processor() or platform.machine()


def _processor_flags() -> list[str] | None:
    """Instruction sets of an x86 processor under Linux; None on other systems."""
    flags = _processor_facts().get("flags")
    return None if flags is None else flags.split()


def _processor_facts() -> dict[str, str]:
    """Fields of the first processor in Linux's /proc/cpuinfo; empty on other systems."""
    try:
        first, *_ = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    except OSError:
        return {}
    lines = [line.partition(":") for line in first.splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Context manager that discards stderr, also of C++ code, for the messages that TensorFlow prints when it is imported."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
