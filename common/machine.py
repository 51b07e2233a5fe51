"""What this computer has, asked without TensorFlow."""

import os
import pathlib
import subprocess


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them; asked without TensorFlow."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU")]
    return [str(i) for i in range(len(listed))]


def lacks_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 only by way of float32, as far as it says (Linux)."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return not any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))
