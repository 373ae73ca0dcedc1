"""Every line comes where its counters say, once and whole, however the stream is cut; what is lost is told."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside import KSpace, Readouts, Scan, ScanEnd, memory
from scanside.errors import CounterError, HeaderError, ScanError, ShapeError, StageConfigError
from scanside.items import Calibration
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.mrd.header import Limit
from scanside.simulate import SamplingConfig
from scanside.simulate.sampling import phase_bands, sampling_pattern
from scanside.stages.accumulate import Accumulate

LAST = Flag.LAST_IN_SLICE
FULL = {"kspace_encode_step_1": Limit(0, 11, 6)}


def joined(*blocks: Readouts) -> Readouts:
    return Readouts(
        np.concatenate([block.headers for block in blocks]),
        np.concatenate([block.samples for block in blocks]),
    )


def rows(kspace: KSpace) -> list[int]:
    """Sampled rows of a 2-D k-space."""
    return kspace.mask.reshape(-1, kspace.mask.shape[-1]).any(0).nonzero().flatten().tolist()


# Placement


def test_counter_minus_center_plus_half(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Lines 0 to 7 with the centre in line 3 lie on rows 3 to 10 of 12."""
    block = lines(range(8), last=LAST)
    xml = make_header(limits={"kspace_encode_step_1": Limit(0, 7, 3)})
    kspace = run_stage(Accumulate(), xml, [block]).one
    assert kspace.data.shape == (2, 1, 12, 16)
    np.testing.assert_array_equal(kspace.data[:, 0, 3:11].numpy(), block.samples.swapaxes(0, 1))
    assert rows(kspace) == list(range(3, 11))
    assert not kspace.data[:, 0, [0, 1, 2, 11]].any()
    assert [(r.first, r.last, r.center) for r in kspace.ranges] == [(0, 15, 8), (3, 10, 6), (0, 0, 0)]
    assert kspace.headers["scan_counter"][0, 3:11].tolist() == list(range(8))
    assert (kspace.headers["version"][0] > 0).tolist() == kspace.mask[0].tolist()
    assert kspace.counters == {"slice": 0, "contrast": 0, "phase": 0, "repetition": 0, "set": 0}


def test_odd_matrix_and_partitions(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=15)
    xml = make_header((15, 5, 3), limits={"kspace_encode_step_2": Limit(0, 2, 1)})
    blocks = [lines(range(5), k2=k2) for k2 in (2, 0, 1)]
    kspace = run_stage(Accumulate(), xml, blocks).one
    for block, k2 in zip(blocks, (2, 0, 1), strict=True):
        np.testing.assert_array_equal(kspace.data[:, k2].numpy(), block.samples.swapaxes(0, 1))


def test_lines_in_any_order(make_header: Any, lines: Any, run_stage: Any) -> None:
    order = np.random.default_rng(0).permutation(12)
    block = lines(order)
    kspace = run_stage(Accumulate(), make_header(), [block]).one
    np.testing.assert_array_equal(kspace.data[:, 0, order].numpy(), block.samples.swapaxes(0, 1))


def test_partial_echo_lies_about_the_centre(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=11)
    block = lines(range(12), center=3)
    kspace = run_stage(Accumulate(), make_header(), [block]).one
    np.testing.assert_array_equal(kspace.data[:, 0, :, 5:].numpy(), block.samples.swapaxes(0, 1))
    assert not kspace.data[..., :5].any()
    assert (kspace.ranges[0].first, kspace.ranges[0].last) == (5, 15)


def test_echo_positions_may_differ_within_a_block(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=12)
    block = joined(lines(range(6), center=4), lines(range(6, 12), center=8))
    kspace = run_stage(Accumulate(), make_header(), [block]).one
    np.testing.assert_array_equal(kspace.data[:, 0, :6, 4:].numpy(), block.samples[:6].swapaxes(0, 1))
    np.testing.assert_array_equal(kspace.data[:, 0, 6:, :12].numpy(), block.samples[6:].swapaxes(0, 1))


def test_reversed_readouts_and_discards(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    """Discards and the echo count samples as they are stored, those of reversed readouts too."""
    lines = make_lines(n_samples=19)
    forward = lines(range(6), discard_pre=2, discard_post=1, center=10)
    backward = lines(range(6, 12), discard_pre=2, discard_post=1, center=9, flags=Flag.REVERSE)
    kspace = run_stage(Accumulate(), make_header(), [joined(forward, backward)]).one
    np.testing.assert_array_equal(kspace.data[:, 0, :6].numpy(), forward.samples[..., 2:18].swapaxes(0, 1))
    turned = backward.samples[..., 2:18][..., ::-1]
    np.testing.assert_array_equal(kspace.data[:, 0, 6:].numpy(), turned.swapaxes(0, 1))


@pytest.mark.parametrize("block", [1, 12])
def test_echo_of_reversed_readouts_as_it_is_stored(
    make_header: Any, make_lines: Any, run_stage: Any, block: int
) -> None:
    """Of 12 samples that are left the echo is the fifth in both directions, whatever else the headers share."""
    lines = make_lines(n_samples=15)
    forward = lines(range(0, 12, 2), discard_pre=2, discard_post=1, center=6)
    backward = lines(range(1, 12, 2), discard_pre=2, discard_post=1, center=9, flags=Flag.REVERSE)
    whole = joined(forward, backward).select(np.arange(12).reshape(2, 6).T.ravel())
    parts = [whole.select(slice(i, i + block)) for i in range(0, 12, block)]
    kspace = run_stage(Accumulate(), make_header(), parts).one
    np.testing.assert_array_equal(
        kspace.data[:, 0, ::2, 4:].numpy(), forward.samples[..., 2:14].swapaxes(0, 1)
    )
    turned = backward.samples[..., 2:14][..., ::-1]
    np.testing.assert_array_equal(kspace.data[:, 0, 1::2, 4:].numpy(), turned.swapaxes(0, 1))


@pytest.mark.parametrize("block", [1, 12])
def test_equal_numbers_for_both_directions_mean_different_places(
    make_header: Any, lines: Any, run_stage: Any, block: int
) -> None:
    """Of an even number of samples the echo's index from one end is never that from the other."""
    lines.n_samples = 14
    forward, backward = lines(range(6), center=7), lines(range(6, 12), center=7, flags=Flag.REVERSE)
    whole = joined(forward, backward)
    parts = [whole.select(slice(i, i + block)) for i in range(0, 12, block)]
    kspace = run_stage(Accumulate(), make_header(), parts).one
    np.testing.assert_array_equal(kspace.data[:, 0, :6, 1:15].numpy(), forward.samples.swapaxes(0, 1))
    np.testing.assert_array_equal(
        kspace.data[:, 0, 6:, 2:].numpy(), backward.samples[..., ::-1].swapaxes(0, 1)
    )


def test_samples_are_copied(make_header: Any, lines: Any, run_stage: Any) -> None:
    """A block is a view into a receive buffer that is written anew: nothing of it may be kept."""
    block = lines(range(12))
    expected = block.samples.copy()

    def receive() -> Any:
        yield block
        block.samples[:] = 0
        block.headers[:] = np.zeros((), block.headers.dtype)

    kspace = run_stage(Accumulate(), make_header(), receive()).one
    np.testing.assert_array_equal(kspace.data[:, 0].numpy(), expected.swapaxes(0, 1))
    assert kspace.headers["scan_counter"].max() == 11


def test_readout_axis_after_removal_of_oversampling(
    make_header: Any, make_lines: Any, run_stage: Any
) -> None:
    xml = make_header((32, 12, 1), (16, 12, 1))
    removed = run_stage(Accumulate(), xml, [make_lines(n_samples=16)(range(12))]).one
    assert removed.data.shape[-1] == 16
    assert removed.extent_mm[0] == 16
    encoded = run_stage(Accumulate(readout_grid="encoded"), xml, [make_lines(n_samples=16)(range(12))]).one
    assert encoded.data.shape[-1] == 32
    full = run_stage(Accumulate(), xml, [make_lines(n_samples=32)(range(12))]).one
    assert full.extent_mm[0] == 32


def test_siemens_center_in_user_counters(make_header: Any, lines: Any, run_stage: Any) -> None:
    block = lines(range(8))
    block.headers["idx"]["user"][:, 5] = 3
    xml = make_header(system="<systemVendor>SIEMENS</systemVendor>")
    ran = run_stage(Accumulate(), xml, [block])
    assert rows(ran.one) == list(range(3, 11))
    assert "center 3 is taken from idx.user[5]" in ran.scan.warnings[0]
    # Of other vendors' counters nobody knows what they mean, and a header's limits come first.
    assert rows(run_stage(Accumulate(), make_header(), [block]).one) == list(range(8))
    limited = make_header(
        limits={"kspace_encode_step_1": Limit(0, 7, 4)}, system="<systemVendor>SIEMENS</systemVendor>"
    )
    assert rows(run_stage(Accumulate(), limited, [block]).one) == list(range(2, 10))


# What does not fit


def test_counter_outside_the_limits(make_header: Any, lines: Any, run_stage: Any) -> None:
    with pytest.raises(CounterError, match=r"scan counter 8 has kspace_encode_step_1 = 8.*limits are 0 to 7"):
        run_stage(
            Accumulate(), make_header(limits={"kspace_encode_step_1": Limit(0, 7, 3)}), [lines(range(9))]
        )


def test_counter_off_the_grid(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"kspace_encode_step_1": Limit(0, 11, 2)})
    with pytest.raises(CounterError, match="kspace_encode_step_1 = 8, which goes to index 12 of 12"):
        run_stage(Accumulate(), xml, [lines(range(12))])


def test_channels_must_not_change(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    with pytest.raises(ShapeError, match="has 3 channels, those before it in the same image 2"):
        run_stage(Accumulate(), make_header(), [make_lines()(range(6)), make_lines(n_coils=3)(range(6, 12))])


def test_samples_that_do_not_fit(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    with pytest.raises(ShapeError, match="17 samples with the echo at sample 8"):
        run_stage(Accumulate(), make_header(), [make_lines(n_samples=17)(range(12))])


@pytest.mark.parametrize(("pre", "post", "flags"), [(300, 0, 0), (10, 6, 0), (9, 0, 0), (0, 9, Flag.REVERSE)])
def test_discards_that_leave_no_echo(
    make_header: Any, lines: Any, run_stage: Any, pre: int, post: int, flags: int
) -> None:
    block = lines(range(12), discard_pre=pre, discard_post=post, flags=flags)
    told = rf"scan counter 0 has 16 samples with the echo at sample 8, of which the first {pre} and the last {post}"
    with pytest.raises(ShapeError, match=told):
        run_stage(Accumulate(), make_header(), [block])


@pytest.mark.parametrize("matrix", [(16, 60000, 60000), (16, 2**34, 1)])
def test_matrix_beyond_any_memory(
    make_header: Any, lines: Any, run_stage: Any, matrix: tuple[int, int, int]
) -> None:
    told = rf"2 x {matrix[2]} x {matrix[1]} x 16 \(coil, k2, k1, k0\).*needs .*there are .*check the matrix"
    with pytest.raises(ScanError, match=told):
        run_stage(Accumulate(), make_header(matrix), [lines(range(12))])


@pytest.mark.parametrize(
    ("encoded", "recon", "said"),
    [
        ((16, 12, 1), (16, 60_000, 60_000), "an image of .* takes .*memory"),
        ((16, 70_000, 1), None, "at most 65535"),
    ],
)
def test_images_that_no_memory_or_header_can_hold(
    make_header: Any, lines: Any, run_stage: Any, encoded: Any, recon: Any, said: str
) -> None:
    """A header of a few bytes must not cost minutes and gigabytes before it fails."""
    memory.limit_process(memory.resident_bytes() + (4 << 30))
    try:
        with pytest.raises(ScanError, match=said):
            run_stage(Accumulate(), make_header(encoded, recon), [lines(range(12))])
    finally:
        memory.limit_process(None)


def test_matrix_beyond_what_its_process_may_have(make_header: Any, lines: Any, run_stage: Any) -> None:
    """A worker that takes more than its limit is ended: better to say so beforehand."""
    memory.limit_process(memory.resident_bytes() + (64 << 20))
    try:
        with pytest.raises(ScanError, match=r"there are .* of memory for it: check the matrix"):
            run_stage(Accumulate(), make_header((16, 12, 100_000)), [lines(range(12))])
    finally:
        memory.limit_process(None)


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate"), RuntimeError("can't allocate memory")])
def test_allocation_that_fails(
    make_header: Any, lines: Any, run_stage: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    block = lines(range(12))
    monkeypatch.setattr(np, "empty", fail)
    told = rf"2 x 1 x 12 x 16 .*matrix 16 x 12 x 1 of the header could not be allocated \({error}\): check the matrix"
    with pytest.raises(ScanError, match=told):
        run_stage(Accumulate(), make_header(), [block])


def test_device_without_room(
    make_header: Any, lines: Any, run_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(
        ScanError, match=r"2 x 1 x 12 x 16 .*no room on cpu \(CUDA out of memory\): check the matrix"
    ):
        run_stage(Accumulate(), make_header(), [lines(range(12))])


def test_unknown_encoding_space(make_header: Any, lines: Any, run_stage: Any) -> None:
    with pytest.raises(HeaderError, match="encoding space 1"):
        run_stage(Accumulate(), make_header(), [lines(range(12), encoding_space_ref=1)])


def test_other_trajectories_are_refused(make_header: Any, lines: Any, run_stage: Any) -> None:
    with pytest.raises(ScanError, match="radial trajectory"):
        run_stage(Accumulate(), make_header(trajectory="radial"), [lines(range(12))])


def test_unknown_flag_to_keep_out() -> None:
    with pytest.raises((ScanError, StageConfigError), match="no flag 'NOISE'"):
        Accumulate(keep_out=("NOISE",))


# What belongs together, and when it is finished


def test_last_line_finishes(make_header: Any, lines: Any) -> None:
    """The image leaves with its last line, not with the next one or the end."""
    from scanside import Context, Scan

    stage = Accumulate()
    stage.prepare(Context(device="cpu"))
    stage.open(Scan.from_xml(make_header()))
    assert list(stage.process(lines(range(11)))) == []
    assert len(list(stage.process(lines([11], last=LAST)))) == 1
    assert list(stage.finish(ScanEnd())) == []


def test_late_line_is_an_error(make_header: Any, lines: Any, run_stage: Any) -> None:
    with pytest.raises(ScanError, match=r"slice 0.*scan counter 12.*trigger to 'measurement'"):
        run_stage(Accumulate(), make_header(), [lines(range(12), last=LAST), lines([3])])
    late = [lines(range(12), last=LAST), lines([3])]
    assert len(run_stage(Accumulate(trigger="measurement"), make_header(), late).items) == 1


def test_first_line_begins_anew(make_header: Any, lines: Any, run_stage: Any) -> None:
    blocks = [lines(range(12), last=LAST), lines(range(12), first=Flag.FIRST_IN_SLICE, last=LAST)]
    first, second = run_stage(Accumulate(), make_header(), blocks).items
    np.testing.assert_array_equal(first.data[:, 0].numpy(), blocks[0].samples.swapaxes(0, 1))
    np.testing.assert_array_equal(second.data[:, 0].numpy(), blocks[1].samples.swapaxes(0, 1))


def test_lines_after_the_first_one_belong_to_the_new_image(
    make_header: Any, lines: Any, run_stage: Any
) -> None:
    """However the stream is cut: only the first line of the second image says that it is one."""
    again = lines(range(12), first=Flag.FIRST_IN_SLICE, last=LAST)
    blocks = [lines(range(12), last=LAST), again.select(slice(0, 5)), again.select(slice(5, None))]
    _, second = run_stage(Accumulate(), make_header(), blocks).items
    np.testing.assert_array_equal(second.data[:, 0].numpy(), again.samples.swapaxes(0, 1))


def test_next_repetition_finishes(make_header: Any, lines: Any) -> None:
    from scanside import Context, Scan

    stage = Accumulate()
    stage.prepare(Context(device="cpu"))
    stage.open(Scan.from_xml(make_header(limits={"slice": Limit(0, 1, 0), "repetition": Limit(0, 1, 0)})))
    assert list(stage.process(lines(range(12)))) == []
    assert list(stage.process(lines(range(12), slice=1))) == []
    (done,) = stage.process(lines(range(12), repetition=1))
    assert (done.counters["slice"], done.counters["repetition"]) == (0, 0)
    rest = [(k.counters["slice"], k.counters["repetition"]) for k in stage.finish(ScanEnd())]
    assert rest == [(1, 0), (0, 1)]


def test_counters_separate(make_header: Any, lines: Any, run_stage: Any) -> None:
    names = ("slice", "contrast", "phase", "set")
    blocks = [lines(range(12), **{name: 1}) for name in names]
    out = run_stage(Accumulate(), make_header(limits={n: Limit(0, 1, 0) for n in names}), blocks).items
    assert [[k.counters[name] for name in names] for k in out] == np.eye(4).tolist()


def test_segments_fill_the_same_kspace(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Some producers flag the last line of the slice in every segment: only the last segment's counts."""
    blocks = [lines(range(s, 12, 3), segment=s, last=LAST) for s in range(3)]
    xml = make_header(limits={"segment": Limit(0, 2, 0)})
    assert run_stage(Accumulate(), xml, blocks).one.mask.all()


def test_averages(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"average": Limit(0, 2, 0)})
    blocks = [lines(range(12), average=a, last=LAST) for a in range(3)]
    ran = run_stage(Accumulate(), xml, blocks)
    mean = np.mean([block.samples for block in blocks], axis=0)
    np.testing.assert_allclose(ran.one.data[:, 0].numpy(), mean.swapaxes(0, 1), rtol=1e-6)
    assert ran.scan.warnings == []
    out = run_stage(Accumulate(averages="separate"), xml, blocks).items
    assert [k.counters["average"] for k in out] == [0, 1, 2]
    np.testing.assert_array_equal(out[1].data[:, 0].numpy(), blocks[1].samples.swapaxes(0, 1))


def test_repeated_lines_are_averaged_and_told(make_header: Any, lines: Any, run_stage: Any) -> None:
    block, again = lines(range(12)), lines([5, 5])
    ran = run_stage(Accumulate(), make_header(), [block, again])
    expected = (block.samples[5] + again.samples.sum(0)) / 3
    np.testing.assert_allclose(ran.one.data[:, 0, 5].numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(ran.one.data[:, 0, 4].numpy(), block.samples[4])
    assert "1 of 12 lines came more than once" in ran.scan.warnings[0]


def test_some_lines_come_again(
    make_header: Any, lines: Any, run_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that repeats some lines and brings others, and lines that never come, on memory that holds anything."""
    allocate = np.empty

    def holding_anything(shape: Any, dtype: Any = float, **settings: Any) -> Any:
        array = allocate(shape, dtype, **settings)
        if array.dtype == np.complex64:
            array.fill(np.nan)
        return array

    first, second, third = lines(range(2, 7)), lines(range(4, 9)), lines(range(8, 1, -1))
    monkeypatch.setattr(np, "empty", holding_anything)
    kspace = run_stage(Accumulate(), make_header(), [first, second, third]).one
    expected = np.zeros((12, 2, 16), np.complex64)
    n = np.zeros((12, 1, 1))
    for block in (first, second, third):
        rows_ = block.headers["idx"]["kspace_encode_step_1"]
        expected[rows_] += block.samples
        n[rows_] += 1
    np.testing.assert_allclose(
        kspace.data[:, 0].numpy(), (expected / np.maximum(n, 1)).swapaxes(0, 1), rtol=1e-5, atol=1e-6
    )


def test_counters_become_axes(make_header: Any, lines: Any, run_stage: Any) -> None:
    limits = {"phase": Limit(0, 1, 0), "set": Limit(1, 3, 0)}
    blocks = {(p, s): lines(range(12), phase=p, set=s, last=LAST) for s in (1, 3, 2) for p in (1, 0)}
    kspace = run_stage(Accumulate(together=("phase", "set")), make_header(limits=limits), blocks.values()).one
    assert kspace.other == ("phase", "set")
    assert kspace.data.shape == (2, 3, 2, 1, 12, 16)
    assert kspace.headers.shape == kspace.mask.shape == (2, 3, 1, 12)
    for (phase, set_), block in blocks.items():
        np.testing.assert_array_equal(
            kspace.data[phase, set_ - 1, :, 0].numpy(), block.samples.swapaxes(0, 1)
        )
    assert "phase" not in kspace.counters


def test_interleaved_slices_together(make_header: Any, lines: Any) -> None:
    """The slice of the highest counter comes in the middle: its end is not that of the k-space."""
    from scanside import Context, Scan

    stage = Accumulate(together=("slice",))
    stage.prepare(Context(device="cpu"))
    stage.open(Scan.from_xml(make_header(limits={"slice": Limit(0, 3, 0)})))
    out: list[KSpace] = []
    for slice_ in (1, 3, 0, 2):
        assert out == []
        out += stage.process(lines(range(12), slice=slice_, last=LAST))
    assert out[0].mask.all()


def test_keep_out(make_header: Any, lines: Any, run_stage: Any) -> None:
    navigators = lines([6] * 3, flags=Flag.NAVIGATION_DATA)
    blocks = [lines(range(6)), navigators, lines(range(6, 12))]
    ran = run_stage(Accumulate(), make_header(), blocks)
    np.testing.assert_array_equal(ran.one.data[:, 0, 6].numpy(), blocks[2].samples[0])
    assert ran.scan.warnings == []
    with_them = run_stage(Accumulate(keep_out=()), make_header(), blocks)
    assert "more than once" in with_them.scan.warnings[0]


def test_several_encoding_spaces(make_header: Any, lines: Any, run_stage: Any) -> None:
    blocks = [lines(range(6), encoding_space_ref=e) for e in (0, 1)] + [
        lines(range(6, 12), encoding_space_ref=e) for e in (0, 1)
    ]
    out = run_stage(Accumulate(), make_header(n_encodings=2), blocks).items
    assert [k.encoding.index for k in out] == [0, 1]
    assert all(k.mask.all() for k in out)


def test_empty_block(make_header: Any, lines: Any, run_stage: Any) -> None:
    block = lines(range(12))
    assert run_stage(Accumulate(), make_header(), [block.select(slice(0, 0)), block]).one.mask.all()


# Calibration lines


def test_separate_calibration_serves_all(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(
        acceleration=(2, 1),
        calibration="separate",
        limits={"repetition": Limit(0, 1, 0), "phase": Limit(0, 1, 0), "set": Limit(0, 1, 0)},
    )
    acs = lines(range(4, 9), flags=Flag.PARALLEL_CALIBRATION)
    images = [
        lines(range(0, 12, 2), repetition=r, phase=p, set=s, last=LAST)
        for r in range(2)
        for p in range(2)
        for s in range(2)
    ]
    out = run_stage(Accumulate(), xml, [acs, *images]).items
    assert len(out) == 8
    for kspace in out:
        assert rows(kspace) == list(range(0, 12, 2)), "calibration lines are no lines of the image"
        assert kspace.reference is out[0].reference, "the same object, so that its weights are kept"
    reference = out[0].reference
    np.testing.assert_array_equal(reference.data[:, 0].numpy(), acs.samples.swapaxes(0, 1))
    assert (reference.ranges[1].first, reference.ranges[1].last, reference.ranges[1].center) == (0, 4, 2)
    assert reference.mask.all()


def test_new_calibration_replaces(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(calibration="separate", limits={"repetition": Limit(0, 1, 0)})
    blocks = []
    for repetition in range(2):
        blocks.append(lines(range(4, 9), flags=Flag.PARALLEL_CALIBRATION, repetition=repetition))
        blocks.append(lines(range(12), repetition=repetition, last=LAST))
    first, second = run_stage(Accumulate(), xml, blocks).items
    for kspace, block in ((first, blocks[0]), (second, blocks[2])):
        np.testing.assert_array_equal(kspace.reference.data[:, 0].numpy(), block.samples.swapaxes(0, 1))


def test_repeated_calibration_is_averaged(make_header: Any, lines: Any, run_stage: Any) -> None:
    acs = [lines(range(4, 9), flags=Flag.PARALLEL_CALIBRATION, average=a) for a in range(2)]
    xml = make_header(calibration="separate", limits={"average": Limit(0, 1, 0)})
    reference = run_stage(Accumulate(), xml, [*acs, lines(range(12))]).one.reference
    mean = (acs[0].samples + acs[1].samples) / 2
    np.testing.assert_allclose(reference.data[:, 0].numpy(), mean.swapaxes(0, 1), rtol=1e-6)


def test_one_calibration_for_frames_together(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(calibration="separate", limits={"phase": Limit(0, 2, 0)})
    acs = lines(range(4, 9), flags=Flag.PARALLEL_CALIBRATION)
    images = [lines(range(12), phase=phase) for phase in range(3)]
    kspace = run_stage(Accumulate(together=("phase",)), xml, [acs, *images]).one
    assert kspace.data.shape[0] == 3
    assert kspace.reference.data.shape == (1, 2, 1, 5, 16)
    np.testing.assert_array_equal(kspace.reference.data[0, :, 0].numpy(), acs.samples.swapaxes(0, 1))


@pytest.mark.parametrize("lattice_flag", [Flag.PARALLEL_CALIBRATION_AND_IMAGING, 0])
def test_embedded_calibration(make_header: Any, lines: Any, run_stage: Any, lattice_flag: int) -> None:
    """Lines of the block that are on the lattice anyway are not flagged by every converter."""
    blocks = [
        lines(
            [k],
            flags=0
            if k % 2 == 0 and not 4 <= k < 9
            else Flag.PARALLEL_CALIBRATION
            if k % 2
            else lattice_flag,
        )
        for k in range(12)
        if k % 2 == 0 or 4 <= k < 9
    ]
    xml = make_header(acceleration=(2, 1), calibration="embedded")
    kspace = run_stage(Accumulate(), xml, blocks).one
    assert rows(kspace) == [0, 2, 4, 5, 6, 7, 8, 10]
    assert kspace.reference.mask.all()
    first = 4 if lattice_flag else 5
    np.testing.assert_array_equal(
        kspace.reference.data[:, 0].numpy(), kspace.data[:, 0, first : 9 if lattice_flag else 8].numpy()
    )


def test_phases_keep_their_own_calibration(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Where the header says nothing of calibration, flagged lines of interleaved phases are not mixed."""
    xml = make_header(acceleration=(2, 1), limits={"phase": Limit(0, 1, 0)})
    both, only = Flag.PARALLEL_CALIBRATION_AND_IMAGING, Flag.PARALLEL_CALIBRATION
    blocks = [
        lines(
            [k], phase=phase, flags=(only if k % 2 else both) if 3 < k < 9 else 0, last=LAST if k == 10 else 0
        )
        for k in [*range(0, 4, 2), *range(4, 9), 10]
        for phase in range(2)
    ]
    out = run_stage(Accumulate(), xml, blocks).items
    for phase, kspace in enumerate(out):
        assert kspace.reference.headers["idx"]["phase"].tolist() == [[phase] * 5]
        assert kspace.reference.mask.all()


# However the stream is cut


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 47), max_size=12))
def test_blocks_do_not_matter(cuts: list[int], make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines()
    limits = {"slice": Limit(0, 1, 0), "average": Limit(0, 1, 0)}
    whole = joined(
        *(
            joined(
                lines(range(0, 12, 2), slice=s, average=a),
                lines([6], slice=s, average=a, flags=Flag.NAVIGATION_DATA),
                lines(range(11, 0, -2), slice=s, average=a, flags=Flag.REVERSE, center=7, last=LAST),
            )
            for a in range(2)
            for s in range(2)
        )
    )
    bounds = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole.select(slice(a, b)) for a, b in pairwise(bounds)]
    expected = run_stage(Accumulate(), make_header(limits=limits), [whole]).items
    found = run_stage(Accumulate(), make_header(limits=limits), parts).items
    assert len(found) == len(expected) == 2
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.data, b.data)
        assert a.headers.tobytes() == b.headers.tobytes()
        assert a.counters == b.counters


# An early end


def test_early_end_withholds(make_header: Any, lines: Any, run_stage: Any) -> None:
    end = ScanEnd(complete=False, reason="the peer is gone")
    ran = run_stage(Accumulate(), make_header(), [lines(range(7))], end=end)
    assert ran.items == []
    assert "withheld: the peer is gone; 7 lines of slice 0" in ran.scan.warnings[0]


def test_early_end_marks(make_header: Any, lines: Any, run_stage: Any) -> None:
    end = ScanEnd(complete=False, reason="the peer is gone")
    blocks = [lines(range(12), last=LAST), lines(range(7), repetition=1)]
    xml = make_header(limits={"repetition": Limit(0, 1, 0)})
    whole, cut = run_stage(Accumulate(incomplete="mark"), xml, blocks, end=end).items
    assert whole.incomplete is None
    assert cut.incomplete.startswith("the peer is gone; 7 lines of slice 0")


def test_next_scan_starts_empty(make_header: Any, lines: Any, run_stage: Any) -> None:
    stage = Accumulate()
    run_stage(stage, make_header(), [lines(range(12), last=LAST)])
    block = lines(range(12), last=LAST)
    kspace = run_stage(stage, make_header(), [block]).one
    np.testing.assert_array_equal(kspace.data[:, 0].numpy(), block.samples.swapaxes(0, 1))


# Lost lines


def simulated_lines(n: int, **settings: Any) -> list[int]:
    """Lines of the simulator's pattern on a grid of n."""
    sampling = SamplingConfig(**settings)
    pattern, _ = sampling_pattern(sampling, phase_bands(sampling, (16, n, 1)))
    lines: list[int] = pattern.k1.tolist()
    return lines


def without(block: Readouts, *counters: int) -> Readouts:
    return block.select(~np.isin(block.headers["idx"]["kspace_encode_step_1"], counters))


@pytest.mark.parametrize("lost", [(0,), (5,), (11,), (4, 5)])
def test_lost_lines_are_told(make_header: Any, lines: Any, run_stage: Any, lost: tuple[int, ...]) -> None:
    ran = run_stage(
        Accumulate(),
        make_header((16, 24, 1), limits={"kspace_encode_step_1": Limit(0, 23, 12)}),
        [without(lines(range(24), last=LAST), *lost)],
    )
    which = ", ".join(map(str, lost))
    told = f"slice 0, contrast 0, phase 0, repetition 0, set 0: kspace_encode_step_1 {which} did not come"
    assert told in ran.one.incomplete
    assert told in ran.scan.warnings[0]


def test_lost_lines_by_their_counters(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Row numbers differ from counters where the centre is shifted: operators know the counters."""
    xml = make_header(limits={"kspace_encode_step_1": Limit(0, 8, 3)})
    assert (
        "kspace_encode_step_1 2 did"
        in run_stage(Accumulate(), xml, [without(lines(range(9)), 2)]).one.incomplete
    )


@pytest.mark.parametrize("lost", [4, 13, 17, 28])
def test_lost_lines_of_a_lattice(make_header: Any, lines: Any, run_stage: Any, lost: int) -> None:
    """R = 3 with a calibration block in 9 to 20: in and out of it, on the lattice and off it."""
    planned = sorted({*range(1, 30, 3), *range(9, 21)})
    xml = make_header(
        (16, 30, 1),
        limits={"kspace_encode_step_1": Limit(0, 29, 15)},
        acceleration=(3, 1),
        calibration="embedded",
    )
    whole = lines(planned)
    assert run_stage(Accumulate(), xml, [whole]).one.incomplete is None
    kspace = run_stage(Accumulate(), xml, [without(whole, lost)]).one
    assert f"kspace_encode_step_1 {lost} did" in kspace.incomplete


def test_lost_partitions(make_header: Any, lines: Any, run_stage: Any) -> None:
    limits = {"kspace_encode_step_1": Limit(0, 11, 6), "kspace_encode_step_2": Limit(0, 15, 8)}
    blocks = [lines(range(12), k2=k2) for k2 in range(16)]
    xml = make_header((16, 12, 16), limits=limits)
    assert run_stage(Accumulate(), xml, blocks).one.incomplete is None
    blocks[5] = without(blocks[5], 3)
    assert "kspace_encode_step_1/2 3/5 did" in run_stage(Accumulate(), xml, blocks).one.incomplete
    missing = run_stage(Accumulate(), xml, blocks[:5] + blocks[6:]).one.incomplete
    assert "0/5, 1/5" in missing
    assert "3/15" in run_stage(Accumulate(), xml, [*blocks[:15]]).one.incomplete


def test_truncated_scan_is_told(make_header: Any, lines: Any, run_stage: Any) -> None:
    """The producer closed properly after 7 of 12 lines: not partial Fourier, as no last line came."""
    kspace = run_stage(Accumulate(), make_header(limits=FULL), [lines(range(8))]).one
    assert "kspace_encode_step_1 8, 9, 10, 11 did" in kspace.incomplete


def test_a_frame_that_never_came(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"phase": Limit(0, 2, 0)})
    blocks = [lines(range(12), phase=phase) for phase in (0, 2)]
    assert "phase 1, no line came" in run_stage(Accumulate(together=("phase",)), xml, blocks).one.incomplete


def test_lost_calibration_is_told(make_header: Any, lines: Any, run_stage: Any) -> None:
    acs = without(lines(range(2, 11), flags=Flag.PARALLEL_CALIBRATION), 6)
    ran = run_stage(Accumulate(), make_header(calibration="separate"), [acs, lines(range(12), last=LAST)])
    assert ran.scan.warnings == ["calibration lines were lost: kspace_encode_step_1 6 did not come"]


def test_only_some_losses_are_told_one_by_one(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"repetition": Limit(0, 19, 0)})
    ran = run_stage(Accumulate(), xml, [without(lines(range(12), repetition=r), 4) for r in range(20)])
    assert len(ran.scan.warnings) == 9
    assert all("repetition" in kspace.incomplete for kspace in ran.items)


def test_readouts_of_changing_shape(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines, short = make_lines(), make_lines(n_samples=11)
    short.lose(5)
    blocks = [lines(range(5)), short([5], center=8)]
    lines.lose()
    blocks.append(lines(range(6, 12), last=LAST))
    ran = run_stage(Accumulate(), make_header(limits=FULL), blocks)
    told = "readouts of changing shape: the first had 16 samples, the one with scan counter 5 has 11"
    assert told in ran.one.incomplete
    assert told in ran.scan.warnings[0]
    assert "lines were lost" not in ran.one.incomplete


def test_calibration_of_another_length_is_fine(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines, short = make_lines(), make_lines(n_samples=12)
    acs = short(range(4, 9), flags=Flag.PARALLEL_CALIBRATION)
    lines.lose(5)
    ran = run_stage(Accumulate(), make_header(calibration="separate"), [acs, lines(range(12), last=LAST)])
    assert ran.one.incomplete is None
    assert ran.scan.warnings == []
    lines.lose()
    odd = make_lines(n_samples=11)([9], flags=Flag.PARALLEL_CALIBRATION, scan_counter=5)
    again = run_stage(Accumulate(), make_header(calibration="separate"), [acs, odd, lines(range(12))])
    assert "among the calibration lines are readouts of changing shape" in again.scan.warnings[0]


@pytest.mark.parametrize("counter", ["slice", "contrast", "phase", "set", "repetition"])
def test_what_the_header_announces_and_never_came(
    make_header: Any, lines: Any, run_stage: Any, counter: str
) -> None:
    xml = make_header(limits={counter: Limit(0, 4, 0)})
    blocks = [lines(range(12), last=LAST, **{counter: value}) for value in (0, 1, 2, 3, 4)]
    assert run_stage(Accumulate(), xml, blocks).scan.warnings == []
    ran = run_stage(Accumulate(), xml, blocks[:3])
    (told,) = ran.scan.warnings
    assert f"3 of 5 {counter}s came (limits 0..4)" in told
    assert all(kspace.incomplete is None for kspace in ran.items), "those that came are whole"
    cut = ScanEnd(complete=False, reason="the peer is gone")
    assert run_stage(Accumulate(), xml, blocks[:3], end=cut).scan.warnings == [], "that is told elsewhere"


def test_endless_series_are_stopped_by_hand(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"repetition": Limit(0, 65535, 0)})
    assert run_stage(Accumulate(), xml, [lines(range(12), last=LAST)]).scan.warnings == []


@pytest.mark.parametrize("came", [1, 2])
def test_missing_averages(make_header: Any, lines: Any, run_stage: Any, came: int) -> None:
    xml = make_header(limits={"average": Limit(0, 2, 0)})
    ran = run_stage(Accumulate(), xml, [lines(range(12), average=a, last=LAST) for a in range(came)])
    told = f"{came} of 3 averages came (limits 0..2)"
    assert told in ran.one.incomplete
    assert told in ran.scan.warnings[0]
    blocks = [lines(range(12), average=a, last=LAST) for a in range(came)]
    apart = run_stage(Accumulate(averages="separate"), xml, blocks)
    assert told in apart.scan.warnings[0]


@pytest.mark.parametrize("step_1", [False, True])
def test_end_that_only_its_flag_would_tell(
    make_header: Any, lines: Any, run_stage: Any, step_1: bool
) -> None:
    """Half a volume, in a header without limits of partitions: it began with a flag and never ended with one."""
    first = Flag.FIRST_IN_SLICE
    blocks = [lines(range(12), k2=k2, first=0 if k2 else first) for k2 in range(9)]
    xml = make_header((16, 12, 16), limits=FULL if step_1 else None)
    kspace = run_stage(Accumulate(), xml, blocks).one
    assert "flagged as the last did not come" in kspace.incomplete
    blocks[-1].headers["flags"][-1] |= np.uint64(Flag.LAST_IN_REPETITION)
    assert run_stage(Accumulate(), xml, blocks).one.incomplete is None
    for block in blocks:
        block.headers["flags"] = 0
    assert run_stage(Accumulate(), xml, blocks).one.incomplete is None, "a producer without such flags"


# No false alarms


@pytest.mark.parametrize(
    ("planned", "acceleration"),
    [
        (range(0, 32, 2), (2, 1)),
        (range(3, 32, 4), (4, 1)),
        (range(2, 30), (1, 1)),  # limits that announce just that
        (range(24), (1, 1)),  # partial Fourier in a header that announces everything
        (range(8, 32), (1, 1)),
        (range(6, 26), (1, 1)),  # reduced resolution
        (range(0, 32, 3), (1, 1)),  # an accelerated scan whose header does not say so
    ],
    ids=str,
)
def test_what_was_not_planned_is_no_loss(
    make_header: Any, lines: Any, run_stage: Any, planned: range, acceleration: tuple[int, int]
) -> None:
    limits = {"kspace_encode_step_1": Limit(0, 31, 16)}
    if planned == range(2, 30):
        limits = {"kspace_encode_step_1": Limit(2, 29, 16)}
    xml = make_header((16, 32, 1), limits=limits, acceleration=acceleration)
    assert run_stage(Accumulate(), xml, [lines(planned, last=LAST)]).one.incomplete is None


@pytest.mark.parametrize("seed", range(5))
def test_random_sampling_is_no_loss(make_header: Any, lines: Any, run_stage: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for acceleration in (1, 2, 4):
        planned = np.union1d(
            generator.choice(64, 64 // max(acceleration, 2), replace=False), np.arange(26, 38)
        )
        xml = make_header(
            (16, 64, 1), limits={"kspace_encode_step_1": Limit(0, 63, 32)}, acceleration=(acceleration, 1)
        )
        assert run_stage(Accumulate(), xml, [lines(planned, last=LAST)]).one.incomplete is None


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "all counters 0"])
@pytest.mark.parametrize("acs", [0, 12, 16])
@pytest.mark.parametrize("factor", [2, 2.5, 3, 4, 5])
@pytest.mark.parametrize("pattern", ["random", "variable-density"])
def test_simulated_irregular_sampling_is_no_loss(
    make_header: Any, make_lines: Any, run_stage: Any, pattern: str, factor: float, acs: int, counted: bool
) -> None:
    """Dense centres look like calibration blocks with gaps. Only a jump of the scan counter is a loss."""
    for seed, n in product(range(8), (80, 128)):
        planned = simulated_lines(n, pattern=pattern, acceleration=(factor, 1), acs=(acs, 0), seed=seed)
        xml = make_header(
            (16, n, 1),
            limits={"kspace_encode_step_1": Limit(0, n - 1, n // 2)},
            acceleration=(round(factor), 1),
        )
        lines = make_lines()
        whole = lines(planned, last=LAST)
        if not counted:
            whole.headers["scan_counter"] = 0
        assert run_stage(Accumulate(), xml, [whole]).one.incomplete is None, (seed, n)
        if counted:
            lost = whole.select(np.arange(len(planned)) != len(planned) // 3)
            assert "lines were lost" in run_stage(Accumulate(), xml, [lost]).one.incomplete, (seed, n)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("acs", [(0, 0), (12, 8)])
def test_random_volumes_are_no_loss(
    make_header: Any, lines: Any, run_stage: Any, factor: int, acs: tuple[int, int]
) -> None:
    sampling = SamplingConfig(pattern="variable-density", acceleration=(factor, 2), acs=acs, density_power=8)
    pattern, _ = sampling_pattern(sampling, phase_bands(sampling, (16, 64, 16)))
    limits = {"kspace_encode_step_1": Limit(0, 63, 32), "kspace_encode_step_2": Limit(0, 15, 8)}
    xml = make_header((16, 64, 16), limits=limits, acceleration=(factor, 2))
    block = lines(pattern.k1, k2=pattern.k2, last=LAST)
    assert run_stage(Accumulate(), xml, [block]).one.incomplete is None


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "all counters 0"])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_every_single_line_of_regular_sampling_is_missed(
    make_header: Any, lines: Any, run_stage: Any, factor: int, counted: bool
) -> None:
    acs = 0 if factor == 1 else 16
    planned = simulated_lines(64, acceleration=(factor, 1), acs=(acs, 0))
    limits = {"kspace_encode_step_1": Limit(0, 63, 32)}
    xml = make_header((16, 64, 1), limits=limits, acceleration=(factor, 1), calibration="embedded")
    whole = lines(planned, last=LAST)
    if not counted:
        whole.headers["scan_counter"] = 0
    assert run_stage(Accumulate(), xml, [whole]).one.incomplete is None
    between = [k for k in planned if k % factor != planned[0] % factor]
    for lost in planned:
        if lost in between[:1] + between[-1:]:
            continue  # nobody knows where the block was to begin
        kspace = run_stage(Accumulate(), xml, [without(whole, lost)]).one
        assert f"kspace_encode_step_1 {lost} did" in (kspace.incomplete or "")


def test_elliptical_sampling_is_no_loss(make_header: Any, lines: Any, run_stage: Any) -> None:
    k2, k1 = np.nonzero(
        np.hypot(
            *(np.mgrid[:20, :24] - np.array([10, 12])[:, None, None]) / np.array([10, 12])[:, None, None]
        )
        <= 1
    )
    limits = {"kspace_encode_step_1": Limit(0, 23, 12), "kspace_encode_step_2": Limit(0, 19, 10)}
    block = lines(k1, k2=k2, last=LAST)
    xml = make_header((16, 24, 20), limits=limits)
    assert run_stage(Accumulate(), xml, [block]).one.incomplete is None
    hole = block.select((k1 != 12) | (k2 != 10))
    assert "12/10" in run_stage(Accumulate(), xml, [hole]).one.incomplete


# Losses that only the scan counter tells


@pytest.mark.parametrize("lose", [0, 1])
def test_counter_tells_where_sampling_is_irregular(
    make_header: Any, lines: Any, run_stage: Any, lose: int
) -> None:
    planned = np.sort(np.random.default_rng(1).choice(64, 24, replace=False))
    xml = make_header((16, 64, 1), acceleration=(3, 1), limits={"repetition": Limit(0, 1, 0)})
    first = lines(planned, last=LAST)
    second = lines(planned[:10], repetition=1)
    lines.lose(lose)
    third = lines(planned[10 + lose :], repetition=1, last=LAST)
    whole, damaged = run_stage(Accumulate(), xml, [first, second, third]).items
    assert whole.incomplete is None
    assert ("jumps from 33 to 35" in (damaged.incomplete or "")) == bool(lose)


def test_lost_last_line_of_irregular_sampling(make_header: Any, lines: Any, run_stage: Any) -> None:
    planned = np.sort(np.random.default_rng(1).choice(64, 24, replace=False))
    xml = make_header((16, 64, 1), acceleration=(3, 1), limits={"repetition": Limit(0, 1, 0)})
    blocks = [lines(planned, last=LAST), lines(planned[:-1], repetition=1)]
    whole, damaged = run_stage(Accumulate(), xml, blocks).items
    assert whole.incomplete is None
    assert "flagged as the last did not come" in damaged.incomplete


def test_lost_average(make_header: Any, lines: Any, run_stage: Any) -> None:
    """The mean of a line that came less often is right, but its noise is not that of the others."""
    xml = make_header(limits={"average": Limit(0, 1, 0)})
    blocks = [lines(range(12), average=0), lines(range(5), average=1)]
    lines.lose()
    blocks.append(lines(range(6, 12), average=1, last=LAST))
    told = "kspace_encode_step_1 5 came in fewer averages than other lines"
    assert told in run_stage(Accumulate(), xml, blocks).one.incomplete


def test_readouts_that_were_taken_out_are_no_loss(make_header: Any, lines: Any, run_stage: Any) -> None:
    """A step before has removed navigators: every line is there, so jumps mean nothing."""
    blocks = []
    for k1 in range(12):
        blocks.append(lines([k1]))
        lines.lose(k1 % 3 == 0)
    assert run_stage(Accumulate(), make_header(limits=FULL), blocks).one.incomplete is None


def test_counters_that_mean_nothing(make_header: Any, lines: Any, run_stage: Any) -> None:
    planned = np.sort(np.random.default_rng(1).choice(64, 24, replace=False))
    xml = make_header((16, 64, 1), acceleration=(3, 1))
    for counters in (
        np.zeros(24),
        np.arange(24) * 5,
        np.arange(24)[::-1],
        np.arange(24) + (np.arange(24) % 2) * 7,
    ):
        block = lines(planned, last=LAST)
        block.headers["scan_counter"] = counters
        assert run_stage(Accumulate(), xml, [block]).one.incomplete is None


@pytest.mark.cuda
def test_on_cuda(make_header: Any, lines: Any, run_stage: Any) -> None:
    from scanside import Context

    acs = lines(range(4, 9), flags=Flag.PARALLEL_CALIBRATION)
    block = lines(range(0, 12, 2), last=LAST)
    xml = make_header(acceleration=(2, 1), calibration="separate")
    kspace = run_stage(Accumulate(), xml, [acs, block], context=Context(device="cuda")).one
    assert kspace.data.is_cuda
    assert kspace.mask.is_cuda
    assert kspace.reference.data.is_cuda
    np.testing.assert_array_equal(kspace.data[:, 0, ::2].cpu().numpy(), block.samples.swapaxes(0, 1))


CALIBRATION = (Flag.PARALLEL_CALIBRATION, Flag.PARALLEL_CALIBRATION_AND_IMAGING)


def in_time(lines: Any, *, calibrate: Any = range(4, 8), n: int = 12, **fields: Any) -> list[Any]:
    """One line after another; those of ``calibrate`` are calibration and image lines, the others every second one."""
    return [
        lines([k1], flags=CALIBRATION[1] if k1 in calibrate else 0, **fields)
        for k1 in range(n)
        if k1 in calibrate or k1 % 2 == 0
    ]


@pytest.mark.parametrize("mode", ["embedded", "other"])
def test_calibration_lines_early(lines: Any, make_header: Any, flag: Any, run_stage: Any, mode: str) -> None:
    """They are given with the first line behind them, and the k-space has the very same ones."""
    xml = make_header(acceleration=(2, 1), calibration=mode)
    stage, scan = Accumulate(), Scan.from_xml(xml)
    stage.open(scan)
    given = [(i, item) for i, block in enumerate(in_time(lines)) for item in stage.process(block)]
    ((at, calibration),) = given
    assert isinstance(calibration, Calibration)
    assert at == 6  # lines 0, 2, 4, 5, 6, 7 came before
    (kspace,) = stage.finish(ScanEnd())
    assert isinstance(kspace, KSpace)
    assert kspace.reference is calibration.kspace.reference
    assert torch.equal(kspace.reference.data, kspace.data[:, :, 4:8])
    assert calibration.kspace.data.shape == kspace.data.shape
    assert calibration.kspace.counters == kspace.counters
    assert not bool(calibration.kspace.data.any())


def test_calibration_lines_before_the_image(lines: Any, make_header: Any, flag: Any, run_stage: Any) -> None:
    """Separate ones come with the first line of the image, once for all repetitions."""
    xml = make_header(acceleration=(2, 1), calibration="separate", limits={"repetition": Limit(0, 1, 0)})
    blocks = [lines(range(4, 8), flags=flag.PARALLEL_CALIBRATION)]
    blocks += [lines(range(0, 12, 2), repetition=i, last=flag.LAST_IN_SLICE) for i in range(2)]
    ran = run_stage(Accumulate(), xml, blocks)
    (calibration,) = ran.calibrations
    assert [item.reference for item in ran.items] == [calibration.kspace.reference] * 2


@pytest.mark.parametrize("scattered", [range(4, 8, 2), (2, 3, 8, 9)], ids=["gaps", "two blocks"])
def test_calibration_lines_with_gaps_are_not_early(
    lines: Any, make_header: Any, run_stage: Any, scattered: Any
) -> None:
    blocks = [lines([k1], flags=CALIBRATION[0] if k1 in scattered else 0) for k1 in (*scattered, 0, 10)]
    ran = run_stage(Accumulate(), make_header(acceleration=(2, 1), calibration="separate"), blocks)
    assert ran.calibrations == []
    assert ran.one.reference is not None


def test_calibration_lines_that_go_on(lines: Any, make_header: Any, run_stage: Any) -> None:
    """More of them come later: the k-space has all, as another object."""
    blocks = in_time(lines) + [lines([k1], flags=CALIBRATION[1]) for k1 in (8, 3)]
    ran = run_stage(Accumulate(), make_header(acceleration=(2, 1), calibration="embedded"), blocks)
    (calibration,) = ran.calibrations
    reference = ran.one.reference
    assert reference is not calibration.kspace.reference
    assert reference.data.shape[-2] == 6
    assert calibration.kspace.reference.data.shape[-2] == 4


def test_calibration_lines_that_come_again(lines: Any, make_header: Any, run_stage: Any) -> None:
    """Nobody finds the samples changed that were handed out early."""
    stage = Accumulate()
    stage.open(Scan.from_xml(make_header(acceleration=(2, 1), calibration="embedded")))
    (calibration,) = [item for block in in_time(lines) for item in stage.process(block)]
    before = calibration.kspace.reference.data.clone()
    list(stage.process(lines([5], flags=CALIBRATION[1])))
    (kspace,) = stage.finish(ScanEnd())
    assert torch.equal(calibration.kspace.reference.data, before)
    assert torch.equal(kspace.reference.data, kspace.data[:, :, 4:8])
    assert not torch.equal(kspace.reference.data, before)


def test_averages_are_not_early(lines: Any, make_header: Any, run_stage: Any) -> None:
    xml = make_header(acceleration=(2, 1), calibration="embedded", limits={"average": Limit(0, 1, 0)})
    blocks = in_time(lines, average=0) + in_time(lines, average=1)
    assert run_stage(Accumulate(), xml, blocks).calibrations == []
    assert len(run_stage(Accumulate(averages="separate"), xml, blocks[: len(blocks) // 2]).calibrations) == 1
