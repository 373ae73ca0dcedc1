"""Every stage that comes with Scanside passes the tests that it asks of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.items import AxisRange, Item, KSpace, Readouts
from scanside.registry import load_stage, stage_names
from scanside.scan import Scan, ScanEnd
from scanside.shadow import Shadow, SideBySide
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    MultibandConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TrajectoryConfig,
    simulate,
)
from scanside.stage import Stage
from scanside.stages.accumulate import Accumulate
from scanside.stages.average import AverageImages
from scanside.stages.cardiac_phases import SortByCardiacPhase
from scanside.stages.centre_maps import CentreMaps
from scanside.stages.coil_compression import CompressCoils
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.engine import RunEngine
from scanside.stages.epi import EchoPlanar
from scanside.stages.filter import KSpaceFilter
from scanside.stages.finish import Finish
from scanside.stages.fourier import Fourier
from scanside.stages.gather import GatherSamples
from scanside.stages.ghost import MeasureGhosts
from scanside.stages.girf import PredictTrajectory
from scanside.stages.gradient_delays import GradientDelays
from scanside.stages.grappa import Grappa
from scanside.stages.gridding import Gridding
from scanside.stages.low_rank_sparse import ReconstructLowRankSparse
from scanside.stages.multiband import SeparateSlices
from scanside.stages.noise import PrewhitenNoise
from scanside.stages.noise_maps import MapNoise
from scanside.stages.noncartesian_pics import NonCartesianPics
from scanside.stages.noncartesian_sense import NonCartesianSenseStage
from scanside.stages.other_contrasts import OtherContrasts
from scanside.stages.oversampling import RemoveOversampling
from scanside.stages.partial_fourier import PartialFourier
from scanside.stages.pics import Pics
from scanside.stages.sense import Sense
from scanside.stages.spirit import Spirit
from scanside.stages.view_sharing import ShareViews
from scanside.stages.window import JoinFrames
from scanside.testing import StageTests, small_kspace, small_readouts, small_scan, small_waveform


class TestAccumulate(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Accumulate()


class TestAccumulateMarked(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Accumulate(incomplete="mark", trigger="measurement")


class TestEchoPlanar(StageTests):
    navigators = 3

    def stage(self) -> Stage[Any, Any]:
        return EchoPlanar()

    def simulated(self) -> SimulatedScan:
        epi = EchoPlanarConfig(navigators=self.navigators, odd_even_rad=(0.4, 1.0), ramp_us=40)
        return simulate(
            ScanConfig(
                geometry=GeometryConfig(matrix=(24, 24, 1), n_slices=2),
                coils=CoilConfig(n_coils=3),
                sampling=SamplingConfig(epi=epi),
                dynamics=DynamicsConfig(repetitions=2),
            )
        )

    def scan(self) -> Scan:
        return Scan.from_xml(self.simulated().header_xml)

    def items(self) -> Sequence[Item]:
        return list(self.simulated().items(block=7))


class TestEchoPlanarWithoutNavigators(TestEchoPlanar):
    navigators = 0


class TestEchoPlanarDualPolarity(TestEchoPlanar):
    def stage(self) -> Stage[Any, Any]:
        return EchoPlanar(dual_polarity=True)

    def simulated(self) -> SimulatedScan:
        config = super().simulated().config
        epi = EchoPlanarConfig(both_directions=True, odd_even_y_rad=(0.0, 1.0, 2.0), ramp_us=40)
        sampling = SamplingConfig(epi=epi, acceleration=(2, 1), acs=(16, 0), acs_mode="separate")
        return simulate(config.model_copy(update={"sampling": sampling}))


class TestMeasureGhosts(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return MeasureGhosts()


class TestAverageImages(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return AverageImages()


class TestSortByCardiacPhase(StageTests):
    """The lines of the small scan come every 5 ms, and so do some beats."""

    def stage(self) -> Stage[Any, Any]:
        return SortByCardiacPhase(phases=2, source="time-stamps", shortest_ms=5)

    def items(self) -> Sequence[Item]:
        items: list[Item] = [*small_readouts(), small_waveform()]
        for item in items:
            if isinstance(item, Readouts):
                # Every tenth tick of 2.5 ms is a trigger.
                item.headers["physiology_time_stamp"][:, 0] = item.headers["acquisition_time_stamp"] % 10
        return items


class TestSortByCardiacPhaseAtOnce(TestSortByCardiacPhase):
    def stage(self) -> Stage[Any, Any]:
        return SortByCardiacPhase(
            phases=2, source="time-stamps", shortest_ms=5, gating="prospective", phase_ms=8
        )


class TestCoilMaps(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return CoilMaps()


class TestCoilMapsEspirit(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return CoilMaps(method="espirit", kernel=4)


class TestCompressCoils(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return CompressCoils(n_coils=2)


class TestCompressCoilsGeometric(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return CompressCoils(n_coils=2, method="geometric")


@pytest.mark.usefixtures("learned_bundles")
class TestRunEngine(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return RunEngine(bundle="gradient", backend="eager", n_coils=(4,))

    def items(self) -> Sequence[Item]:
        return [small_kspace(repetition=i, coil_maps=True) for i in range(2)]


class TestRunEngineFallback(TestRunEngine):
    def stage(self) -> Stage[Any, Any]:
        return RunEngine(bundle="smooth", backend="eager", residual=1e-6)


class TestMapNoise(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return MapNoise()

    def items(self) -> Sequence[Item]:
        return [small_kspace(repetition=i, coil_maps=True) for i in range(2)]


class TestMapNoiseByReplicas(TestMapNoise):
    def stage(self) -> Stage[Any, Any]:
        return MapNoise(method="replicas", replicas=3, stages=["sense"])


class TestFilter(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return KSpaceFilter()


class TestOtherContrasts(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return OtherContrasts(images={"t1": "of-no-scan.h5"})


class TestFinish(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Finish(scaling="fill")


class TestFourier(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Fourier()


class TestFourierMaps(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Fourier(combine="maps")

    def items(self) -> Sequence[Item]:
        return [small_kspace(coil_maps=True)]


class TestGrappa(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Grappa(kernel_k1=2)


class TestSeparateSlices(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return SeparateSlices(kernel_k0=3, kernel_k1=3)

    def simulated(self) -> SimulatedScan:
        multiband = MultibandConfig(factor=2, shift=2)
        return simulate(
            ScanConfig(
                geometry=GeometryConfig(matrix=(24, 24, 1), n_slices=4, slice_gap_mm=20.0),
                coils=CoilConfig(n_coils=4),
                noise=NoiseConfig(scan="none"),
                sampling=SamplingConfig(acs=(16, 0), acs_mode="separate", multiband=multiband),
                dynamics=DynamicsConfig(repetitions=2),
            )
        )

    def scan(self) -> Scan:
        return Scan.from_xml(self.simulated().header_xml)

    def items(self) -> Sequence[Item]:
        accumulate, scan = Accumulate(), self.scan()
        scan.corrected_by.add("multiband")
        accumulate.prepare(self.context())
        accumulate.open(scan)
        made = [item for block in self.simulated().items() for item in accumulate.process(block)]
        return [*made, *accumulate.finish(ScanEnd())]


class TestNoise(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return PrewhitenNoise()


class TestOversampling(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return RemoveOversampling()


class TestPartialFourier(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return PartialFourier()

    def items(self) -> Sequence[Item]:
        """One that needs completing: all lines from the sixth on."""
        whole = small_kspace()
        mask = torch.arange(24)[None] >= 6
        data = torch.randn(
            whole.data.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)
        )
        assert whole.ranges is not None
        ranges = (whole.ranges[0], AxisRange(6, 23, 12), whole.ranges[2])
        return [whole.replace(data=data * mask[..., None], mask=mask, ranges=ranges)]

    def test_the_items_are_completed(self) -> None:
        (kspace,) = self.items()
        assert isinstance(kspace, KSpace)
        (completed,) = self.stage().process(kspace)
        assert float(completed.data[:, :, :6].abs().max()) > 0


class TestShadow(StageTests):
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANSIDE_SHADOW", str(tmp_path))

    def stage(self) -> Stage[Any, Any]:
        return Shadow(shown=["fourier", "finish"], beside=["coil-maps", "sense", "finish"])


class TestSideBySide(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return SideBySide(first=["fourier", "finish"], second=["coil-maps", "sense", "finish"])


class TestSense(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return Sense()

    def items(self) -> Sequence[Item]:
        return [small_kspace(repetition=i, coil_maps=True) for i in range(2)]


class TestPics(TestSense):
    def stage(self) -> Stage[Any, Any]:
        return Pics(shifts=1, tolerance=0.02)


class TestSpirit(TestGrappa):
    def stage(self) -> Stage[Any, Any]:
        return Spirit(kernel_k0=3, kernel_k1=3)


class TestJoinFrames(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return JoinFrames(size=3, stride=1, look_ahead=1)

    def items(self) -> Sequence[Item]:
        return [small_kspace(repetition=i) for i in range(5)]


class TestJoinFramesOfABeat(TestJoinFrames):
    def stage(self) -> Stage[Any, Any]:
        return JoinFrames(size=4, stride=2, look_ahead=1, cyclic=True, calibrate="each")


def windows() -> Sequence[Item]:
    """Two windows of four frames, with coil maps."""
    stage = JoinFrames(size=4, stride=2, look_ahead=1)
    stage.open(small_scan())
    frames = (small_kspace(repetition=i, coil_maps=True) for i in range(6))
    return [window for frame in frames for window in stage.process(frame)]


class TestShareViews(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return ShareViews()

    def items(self) -> Sequence[Item]:
        return windows()


class TestReconstructLowRankSparse(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return ReconstructLowRankSparse()

    def items(self) -> Sequence[Item]:
        return windows()


def spokes() -> SimulatedScan:
    """Two images of a few spokes."""
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(24, 24, 1)),
            coils=CoilConfig(n_coils=3),
            noise=NoiseConfig(scan="none"),
            sampling=SamplingConfig(trajectory=TrajectoryConfig(readouts=24)),
            dynamics=DynamicsConfig(repetitions=2),
        )
    )


class TestGatherSamples(StageTests):
    def stage(self) -> Stage[Any, Any]:
        return GatherSamples()

    def scan(self) -> Scan:
        return Scan.from_xml(spokes().header_xml)

    def items(self) -> Sequence[Item]:
        return list(spokes().items(block=7))


class TestGatherSamplesOfAWindow(TestGatherSamples):
    def stage(self) -> Stage[Any, Any]:
        return GatherSamples(readouts=20, step=9)


class TestCentreMaps(TestGatherSamples):
    def stage(self) -> Stage[Any, Any]:
        return CentreMaps(calibration=12)

    def items(self) -> Sequence[Item]:
        gather = GatherSamples()
        gather.prepare(self.context())
        gather.open(self.scan())
        return [made for block in spokes().items() for made in gather.process(block)]


class TestPredictTrajectory(TestCentreMaps):
    def stage(self) -> Stage[Any, Any]:
        return PredictTrajectory()


class TestGradientDelays(TestCentreMaps):
    def stage(self) -> Stage[Any, Any]:
        return GradientDelays()


class TestNonCartesianSense(TestCentreMaps):
    def stage(self) -> Stage[Any, Any]:
        return NonCartesianSenseStage()

    def items(self) -> Sequence[Item]:
        maps = CentreMaps(calibration=12)
        maps.open(self.scan())
        return [made for item in super().items() for made in maps.process(item)]


class TestNonCartesianPics(TestNonCartesianSense):
    def stage(self) -> Stage[Any, Any]:
        return NonCartesianPics(shifts=1, tolerance=0.05)


class TestGridding(TestNonCartesianSense):
    def stage(self) -> Stage[Any, Any]:
        return Gridding()


class TestGriddingWithMaps(TestNonCartesianSense):
    def stage(self) -> Stage[Any, Any]:
        return Gridding(combine="maps")


def test_all_registered_stages_are_tested() -> None:
    tested = {type(case().stage()) for name, case in globals().items() if name.startswith("Test")}
    elsewhere = {
        load_stage(name) for name in ("dicom", "noncartesian-engine")
    }  # these have modules of their own
    ours = {load_stage(name) for name in stage_names()} - elsewhere
    assert {stage for stage in ours if stage.__module__.startswith("scanside.")} <= tested
