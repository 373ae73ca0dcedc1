"""What an engine is bound to."""

from __future__ import annotations

import pytest

from scanside.engines.hardware import cpu_fingerprint, cpu_fingerprint_of, gpu_fingerprint
from scanside.errors import BackendUnavailable

CORE = "processor : 0\nflags\t\t: fpu sse avx2 avx512f amx_bf16\n\n"
XEON = CORE * 2


def test_fingerprint_names_what_tells_cpus_apart() -> None:
    assert cpu_fingerprint_of(XEON, "x86_64").startswith("cpu x86_64 avx2 avx512f amx_bf16 ")
    arm = "Features\t: fp asimd sve bf16\n"
    assert cpu_fingerprint_of(arm, "aarch64").startswith("cpu aarch64 asimd sve bf16 ")


def test_one_flag_makes_another_machine() -> None:
    assert cpu_fingerprint_of(XEON, "x86_64") != cpu_fingerprint_of(XEON.replace(" sse", ""), "x86_64")
    assert cpu_fingerprint_of(XEON, "x86_64") != cpu_fingerprint_of(XEON, "aarch64")


def test_order_of_flags_does_not() -> None:
    turned = XEON.replace("fpu sse avx2", "avx2 sse fpu")
    assert cpu_fingerprint_of(XEON, "x86_64") == cpu_fingerprint_of(turned, "x86_64")


def test_what_only_some_cores_have_does_not_count() -> None:
    mixed = "Features : fp asimd sve\nFeatures : fp asimd\n"
    assert cpu_fingerprint_of(mixed, "aarch64") == cpu_fingerprint_of("Features : fp asimd\n", "aarch64")


def test_without_a_list_the_name_counts() -> None:
    assert cpu_fingerprint_of("", "arm64", "Apple M3") != cpu_fingerprint_of("", "arm64", "Apple M4")


def test_this_machine_has_a_fingerprint() -> None:
    assert cpu_fingerprint() == cpu_fingerprint()
    assert cpu_fingerprint().startswith("cpu ")


def test_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendUnavailable, match="sees no CUDA device 99"):
        gpu_fingerprint(99)


@pytest.mark.cuda
def test_gpu_fingerprint_holds_name_capability_and_driver() -> None:
    import torch

    fingerprint = gpu_fingerprint()
    assert torch.cuda.get_device_name(0) in fingerprint
    major, minor = torch.cuda.get_device_capability(0)
    assert f" sm{major}{minor} driver " in fingerprint
    assert not fingerprint.endswith("unknown")
