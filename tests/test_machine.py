"""What a computer has, from what Linux tells of its processors."""

import platform

import pytest

from common import machine

CPUINFO = "model name\t: Some CPU\nflags\t\t: fpu {flags}\n\nmodel name\t: Other\nflags\t\t: fpu\n"


@pytest.mark.parametrize(
    ("flags", "name", "lacks"),
    [
        ("avx2", "Some CPU, AVX2", True),
        ("avx2 avx512f", "Some CPU, AVX-512", True),
        ("avx2 avx512f avx512_bf16", "Some CPU, AVX-512", False),
        ("avx512f amx_bf16", "Some CPU, AVX-512", False),
    ],
)
def test_the_first_processor_tells_its_name_and_instructions(monkeypatch, flags, name, lacks):
    monkeypatch.setattr(machine.pathlib.Path, "read_text", lambda _: CPUINFO.format(flags=flags))
    assert machine.processor() == name
    assert machine.lacks_bfloat16() is lacks


def test_without_linux_python_tells_what_it_knows(monkeypatch):
    def absent(_):
        raise OSError

    monkeypatch.setattr(machine.pathlib.Path, "read_text", absent)
    assert machine.processor() == (platform.processor() or platform.machine())
    assert machine.lacks_bfloat16() is False
