"""What this computer has, asked without TensorFlow."""

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
"""Environment variable that says where libraries are looked for first; part of a row's `versions` where it is set."""
FASTER_WITH_ONEDNN = ("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
"""Instructions with any of which TensorFlow switches oneDNN on by itself (`DefaultOneDnnPolicy` in its C++ source)."""
HIDING = ("NoDevFiles", "none", "void")
"""What schedulers write for no GPU."""


class Gpu(NamedTuple):
    """A GPU of this computer."""

    index: str
    uuid: str
    model: str


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them; none where TensorFlow came without CUDA.

    Those that `CUDA_VISIBLE_DEVICES` names count once each, and where this computer has none at all, not at all. As with CUDA, a
    negative number hides those after it. Raises `Misuse` for one that is not among those that are there.
    """
    if _without_cuda() or not _installed_gpus():
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [gpu.index for gpu in _installed_gpus() if gpu.index]
    names = [name.strip() for name in chosen.split(",")]
    visible = list(itertools.takewhile(lambda name: name not in HIDING and not name.startswith("-"), filter(None, names)))
    return list({_installed(name).uuid: name for name in reversed(visible)}.values())[::-1]


def _without_cuda() -> bool:
    """Whether the installed TensorFlow is the one for processors alone."""
    try:
        importlib.metadata.distribution("tensorflow-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def _installed_gpus() -> tuple[Gpu, ...]:
    """The GPUs, and the instances that they are partitioned into (MIG), as `nvidia-smi -L` lists them."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found: list[Gpu] = []
    for line in done.stdout.splitlines():
        if whole := re.match(r"GPU (\d+): (.+) \(UUID: (\S+)\)", line):
            found.append(Gpu(whole[1], whole[3], whole[2]))
        elif (part := re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (\S+)\)", line)) and found:
            found.append(Gpu("", part[2], f"{found[-1].model.partition(' MIG ')[0]} {part[1]}"))
    return tuple(found)


def _installed(name: str) -> Gpu:
    """The GPU that CUDA knows by its index, its UUID or the beginning of it. Raises `Misuse` where there is none, or several."""
    known = [gpu for gpu in _installed_gpus() if name == gpu.index or (len(name) > 4 and gpu.uuid.startswith(name))]
    if len(known) != 1:
        raise Misuse(f"CUDA_VISIBLE_DEVICES must name GPUs that nvidia-smi -L lists. Received: {name}")
    return known[0]


def device() -> str:
    """What trials are trained on: the processor's name and kind, or the GPU's."""
    return kind() if gpus() else f"{_processor_name()}, {kind()}"


def kind() -> str:
    """On what, besides the versions of the packages, the last bits of a result depend.

    The processor's widest vector instructions, whether it has instructions for bfloat16, and whether TensorFlow uses oneDNN;
    or the GPU's model. Raises `Misuse` for GPUs of several models, whose trials could not be compared.
    """
    names = gpus()
    if names:
        models = sorted({_installed(name).model for name in names})
        if len(models) > 1:
            raise Misuse(
                "trials of one seed must run on one kind of GPU: choose some of one model, CUDA_VISIBLE_DEVICES=0. "
                f"Received: {', '.join(models)}"
            )
        return models[0]
    flags = _processor_flags()
    if flags is None:
        instructions = [platform.machine() or "unknown"]
    else:
        widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), platform.machine())
        instructions = [widest] + ([] if lacks_bfloat16() else ["bfloat16"])
    return ", ".join([*instructions, f"oneDNN {'on' if uses_onednn() else 'off'}"])


def uses_onednn() -> bool:
    """Whether TensorFlow uses oneDNN here: what the user set, else what TensorFlow chooses for the processor."""
    setting = os.environ.get(ONEDNN, "").strip().lower()
    if setting in ("0", "false", "1", "true"):
        return setting in ("1", "true")
    return any(flag in FASTER_WITH_ONEDNN for flag in _processor_flags() or ())


def lacks_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 only by way of float32, as far as it is known (Linux)."""
    flags = _processor_flags()
    return flags is not None and not any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))


def _processor_name() -> str:
    return _processor_facts().get("model name") or platform.processor() or platform.machine()


def _processor_flags() -> list[str] | None:
    """The instruction sets of an x86 processor under Linux; None elsewhere."""
    flags = _processor_facts().get("flags")
    return None if flags is None else flags.split()


def _processor_facts() -> dict[str, str]:
    """What Linux tells of the first processor, by name; nothing elsewhere."""
    try:
        first, *_ = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    except OSError:
        return {}
    lines = [line.partition(":") for line in first.splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """What TensorFlow writes to stderr while it is imported stays out of the user's way."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
