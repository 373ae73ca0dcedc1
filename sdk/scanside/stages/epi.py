"""Echo-planar imaging: ramp samples and the phases of echo trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from scanside.errors import CalibrationError, ShapeError
from scanside.items import Readouts
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.header import Encoding
from scanside.outline import Outline
from scanside.recon.epi.dual_polarity import DualPolarity
from scanside.recon.epi.entropy import phase_of_least_entropy
from scanside.recon.epi.navigators import B0Model, EchoPhases, PhaseModel, phases_of_navigators
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._both_directions import consistent, kernels_of
from scanside.stages._echo_space import EchoSpace, Receiver, Regrid, is_echo_planar
from scanside.stages._lines import different_layout

__all__ = ["EchoPlanar"]

_PHASECORR = AcquisitionFlag.PHASECORR_DATA
_REVERSE = AcquisitionFlag.REVERSE
_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION
_ENDS = (
    AcquisitionFlag.LAST_IN_AVERAGE
    | AcquisitionFlag.LAST_IN_SLICE
    | AcquisitionFlag.LAST_IN_REPETITION
    | AcquisitionFlag.LAST_IN_MEASUREMENT
)
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")
_FEWEST_NAVIGATORS = 3

Slice: TypeAlias = tuple[int, int]
"""Encoding space and slice."""


class EchoPlanar(Stage[Readouts, Readouts]):
    """Makes plain lines of the echoes of echo-planar imaging: regridded, all forwards, without odd–even phase.

    Samples that were taken on the ramps of a trapezoidal gradient are brought to equal distances where the header
    describes it (``trajectoryDescription`` with the identifier ConventionalEPI). Reversed echoes are turned round,
    and their flag REVERSE is cleared.

    Navigators (PHASECORR_DATA) tell the phase between forward and reversed echoes and that from echo to echo; those
    that came last for a slice serve the lines that follow, so that each shot is corrected by its own. They pass on.
    Without navigators a constant and a linear phase are estimated from the lines themselves, those of an image
    together: where its entropy is least. The lines wait for that, and the operator is told. Phases that other shots
    have as a whole are not corrected.

    With `dual_polarity`, calibration lines that came twice, read forwards and backwards, give kernels that make of
    each line, once it is corrected by navigators, what a forward echo would have measured, from its neighbours of
    both directions: for phases that change along phase encoding too. Lines wait for their image then. The forward
    calibration lines go on; reversed ones have served, and pass on as PHASECORR_DATA. Where references or navigators
    are missing the operator is told, and lines go on without.

    Readouts of encoding spaces that are not echo-planar, such as a FLASH reference for GRAPPA, pass unchanged, and so
    do all but lines and navigators.

    The phases are those of `scanside.recon.epi`.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            regridding: ``auto`` as the header says, ``none``: samples are equidistant.
            phase: what is fitted to the phase between forward and reversed echoes: ``none`` leaves it, ``mean`` a
                constant, ``linear``, or ``polynomial``. Without navigators: a constant for ``mean``, else linear.
            polynomial_order: of ``polynomial``.
            b0: what is fitted to the phase from echo to echo, by navigators only: ``none``, ``mean`` or ``linear``.
            navigators: ``auto`` takes them where there are any that serve; ``required`` ends with an error where
                there are none; ``ignore`` estimates from the lines in any case.
            receiver: how samples on ramps were demodulated where the field of view lies off the isocentre along the
                readout, which no header tells. ``follows``: at the frequency of its centre, whatever the gradient;
                ``one-frequency``: at that under the flat top, so that ramp samples need another phase.
            dual_polarity: kernels from calibration lines of both directions, behind the correction by navigators.
        """

        regridding: Regrid = "auto"
        phase: PhaseModel = "polynomial"
        polynomial_order: int = Field(4, ge=2, le=4)
        b0: B0Model = "mean"
        navigators: Literal["auto", "required", "ignore"] = "auto"
        dual_polarity: bool = False
        receiver: Receiver = "follows"

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Echo trains by the header; other readouts are left as they are."""
        if not is_echo_planar(outline.encoding):
            return outline.doubted(_left_alone(outline.encoding))
        return outline

    def open(self, scan: Scan) -> None:
        """A new scan: no navigators have come."""
        self._scan = scan
        self._spaces: dict[int, EchoSpace] = {}
        self._trains: dict[Slice, _Train] = {}
        self._waiting: deque[_Waiting] = deque()
        self._kernels: dict[Slice, DualPolarity] = {}
        scan.corrected_by.add("epi")
        self._tell_other_spacing()

    def process(self, item: Readouts) -> Iterator[Readouts]:
        """Correct the lines of a block, or keep them until their image is there."""
        if not len(item):
            return
        start = 0
        for end in _run_ends(item):
            self._take(item.select(slice(start, end)))
            yield from self._ready()
            start = end
        # The block's memory is used anew when the next one comes.
        for waiting in self._waiting:
            waiting.own()

    def finish(self, end: ScanEnd) -> Iterator[Readouts]:
        """Finish what still waits for its last line."""
        for key in dict.fromkeys(waiting.key for waiting in self._waiting):
            if key is not None:
                self._finish_image(key)
        yield from self._ready()

    def close(self) -> None:
        """Forget the scan."""
        self._spaces, self._trains, self._waiting, self._kernels = {}, {}, deque(), {}

    def _ready(self) -> Iterator[Readouts]:
        """What can go on, in the order in which it came."""
        while self._waiting and self._waiting[0].key is None:
            yield self._waiting.popleft().readouts

    def _take(self, run: Readouts) -> None:
        """Take readouts of one kind, for one image."""
        first = run.headers[0]
        index, flags = int(first["encoding_space_ref"]), int(first["flags"])
        if flags & int(NOT_IMAGING & ~_PHASECORR) or not self._is_echo_planar(index):
            self._waiting.append(_Waiting(run))
            return
        place = (index, int(first["idx"]["slice"]))
        if flags & int(_PHASECORR):
            if self.config.navigators != "ignore":
                self._keep_navigators(place, run)
            self._waiting.append(_Waiting(run))
            return
        if index not in self._spaces:
            self._spaces[index] = EchoSpace(
                self._scan, self._scan.encoding(index), run, self.config.regridding, self.config.receiver
            )
        space = self._spaces[index]
        self._tell_other_sample_time(space, run)
        backwards = flagged(run.headers["flags"], _REVERSE)
        straight, image = space.to_image(run)
        train = self._trains.setdefault(place, _Train())
        counters = _image_of(first)
        phases = self._phases(train, space, run)
        if phases is None:
            if self.config.phase == "none":
                self._waiting.append(_Waiting(space.to_lines(straight, image)))
            else:
                self._wait_for_image(place, _Waiting(straight, (index, *counters), image, backwards))
            return
        echo = train.echoes(counters, run.headers["idx"]["kspace_encode_step_1"].tolist())
        image = image * phases.correction(backwards, echo)[:, None]
        lines = space.to_lines(straight, image)
        if not self.config.dual_polarity:
            self._waiting.append(_Waiting(lines))
        else:
            waiting = _Waiting(lines, (index, *counters), backwards=backwards, is_corrected=True)
            self._wait_for_image(place, waiting)

    def _wait_for_image(self, place: Slice, waiting: _Waiting) -> None:
        """Keep lines until their image is there, which may be now."""
        assert waiting.key is not None
        self._end_others(place, waiting.key[1:])
        self._waiting.append(waiting)
        flags = waiting.readouts.headers["flags"]
        # Calibration lines may come once more, in the other direction.
        more = self.config.dual_polarity and int(flags[0]) & int(_CALIBRATION)
        if int(flags[-1]) & int(_ENDS) and not more:
            self._finish_image(waiting.key)

    def _finish_image(self, key: tuple[int, ...]) -> None:
        """Correct the lines of an image that wait."""
        lines = [waiting for waiting in self._waiting if waiting.key == key]
        corrected = [waiting for waiting in lines if waiting.is_corrected]
        others = [waiting for waiting in lines if not waiting.is_corrected]
        if others:
            self._estimate(key, others)
        if corrected:
            finish = self._calibrate if key[-1] else self._make_consistent
            try:
                finish((key[0], key[1]), corrected)
            except (CalibrationError, ShapeError) as error:
                self._scan.warn(
                    f"slice {key[1]} of encoding space {key[0]}: epi.dual_polarity has no effect, lines are "
                    f"corrected by their navigators alone: {error}"
                )
        for waiting in corrected:
            waiting.key = None

    def _calibrate(self, place: Slice, lines: list[_Waiting]) -> None:
        """Make the kernels of a slice; reversed calibration lines have served then."""
        self._kernels.pop(place, None)
        self._kernels[place] = kernels_of(
            [waiting.readouts for waiting in lines], [waiting.backwards for waiting in lines]
        )
        for waiting in lines:
            waiting.readouts.headers["flags"][waiting.backwards] |= np.uint64(int(_PHASECORR))

    def _make_consistent(self, place: Slice, lines: list[_Waiting]) -> None:
        """Have lines of both directions agree."""
        if place not in self._kernels:
            raise CalibrationError(
                "no calibration lines that serve came before its lines: acquire a reference twice, the second time "
                "with the readout gradient reversed"
            )
        made = consistent(
            self._kernels[place],
            [waiting.readouts for waiting in lines],
            [waiting.backwards for waiting in lines],
        )
        for waiting, readouts in zip(lines, made, strict=True):
            waiting.readouts = readouts

    def _is_echo_planar(self, index: int) -> bool:
        encoding = self._scan.encoding(index)
        if is_echo_planar(encoding):
            return True
        if index == 0:
            self._scan.warn(_left_alone(encoding))
        return False

    def _keep_navigators(self, place: Slice, run: Readouts) -> None:
        """Keep navigators; those that come after lines begin a new train."""
        train = self._trains.get(place)
        if train is None or train.has_begun:
            train = self._trains[place] = _Train()
        train.navigators.append(run.copy())

    def _phases(self, train: _Train, space: EchoSpace, run: Readouts) -> EchoPhases | None:
        """The phases of a train's echoes by its navigators; None where none serve.

        Raises:
            CalibrationError: they are required.
        """
        if not train.has_begun:
            train.has_begun = True
            why = train.useless(run)
            if why is None:
                train.phases = phases_of_navigators(
                    np.concatenate([space.to_image(some)[1] for some in train.navigators]),
                    first_backwards=train.directions[0],
                    odd_even=self.config.phase,
                    per_echo=self.config.b0,
                    order=self.config.polynomial_order,
                )
            else:
                self._tell_no_navigators(why, run)
            train.navigators.clear()
        return train.phases

    def _tell_no_navigators(self, why: str, run: Readouts) -> None:
        header = run.headers[0]
        where = f"slice {int(header['idx']['slice'])} of encoding space {int(header['encoding_space_ref'])}"
        if self.config.navigators == "required":
            raise CalibrationError(
                f"{where}: {why}, and epi.navigators is 'required': set it to 'auto' to have the phase between "
                "forward and reversed echoes estimated from the lines"
            )
        if self.config.navigators == "ignore":
            return
        if self.config.phase == "none" and self.config.b0 != "none":
            self._scan.warn(f"{where}: {why}; the phase from echo to echo is not corrected")
        elif self.config.phase != "none":
            self._scan.warn(
                f"{where}: {why}; the phase between forward and reversed echoes is estimated from the lines "
                "themselves (least entropy: a constant within ±90° and a slope)"
            )
        if self.config.dual_polarity:
            self._scan.warn(f"{where}: {why}, which epi.dual_polarity needs: it has no effect there")

    def _end_others(self, place: Slice, counters: tuple[int, ...]) -> None:
        """Finish the earlier images of a slice when lines of another come."""
        for key in dict.fromkeys(waiting.key for waiting in self._waiting):
            if key is not None and key[:2] == place and key[1:] != counters:
                self._finish_image(key)

    def _estimate(self, key: tuple[int, ...], lines: list[_Waiting]) -> None:
        """Correct the lines of an image by the phase that makes its entropy least."""
        n_k1 = self._scan.encoding(key[0]).encoded.matrix[1]
        n_coils, n_x = lines[0].image.shape[1:]
        partitions = {
            int(k2) for waiting in lines for k2 in waiting.readouts.headers["idx"]["kspace_encode_step_2"]
        }
        numbers = {k2: number for number, k2 in enumerate(sorted(partitions))}
        # Where the centre lies shifts images, and partitions may stay encoded: neither changes what entropy is least.
        kspaces = np.zeros((2, len(numbers), n_coils, n_k1, n_x), np.complex64)
        for waiting in lines:
            idx = waiting.readouts.headers["idx"]
            for i, image in enumerate(waiting.image):
                k1, k2 = int(idx["kspace_encode_step_1"][i]), int(idx["kspace_encode_step_2"][i])
                # What is not finite is refused when the image is made.
                finite = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
                kspaces[int(waiting.backwards[i]), numbers[k2], :, k1 % n_k1] += finite
        if len({backwards for waiting in lines for backwards in waiting.backwards.tolist()}) == 2:
            images = np.fft.ifft(kspaces.reshape(2, -1, n_k1, n_x), axis=2)
            phase = phase_of_least_entropy(images[0], images[1], slope=self.config.phase != "mean")
        else:
            phase = np.zeros(n_x)
            self._scan.warn(
                "all echoes of an image run in one direction by their flags (REVERSE): there is no phase between "
                "directions to correct"
            )
        phases = EchoPhases(phase, np.zeros(n_x))
        for waiting in lines:
            factor = phases.correction(waiting.backwards, np.zeros(len(waiting.readouts), np.int64))
            waiting.readouts = EchoSpace.to_lines(waiting.readouts, waiting.image * factor[:, None])
            waiting.key = None

    def _tell_other_sample_time(self, space: EchoSpace, run: Readouts) -> None:
        """Lines of another sample time in one encoding space, such as calibration lines of another echo spacing."""
        sampled_us = float(run.headers["sample_time_us"][0])
        if not space.has_sample_time(sampled_us):
            self._scan.warn(
                f"lines of encoding space {space.encoding.index} have sample times of {space.sampled_us:g} and of "
                f"{sampled_us:g} µs: all are regridded as the header says, and those of another echo spacing are "
                "distorted otherwise; GRAPPA weights of them may leave ghosts"
            )

    def _tell_other_spacing(self) -> None:
        """Calibration lines of another echo spacing are distorted in another way than the images."""
        spacings = {
            encoding.index: spacing
            for encoding in self._scan.header.encodings
            if encoding.description is not None
            and is_echo_planar(encoding)
            and (spacing := encoding.description.number("echoSpacing")) is not None
        }
        if len(set(spacings.values())) > 1:
            told = ", ".join(
                f"{spacing:g} µs in encoding space {index}" for index, spacing in spacings.items()
            )
            self._scan.warn(
                f"echo spacings differ ({told}): references of one are distorted otherwise than lines of the other, "
                "and GRAPPA weights of them may leave ghosts"
            )


@dataclass(slots=True)
class _Train:
    """Navigators of a slice and the lines that follow them.

    Attributes:
        navigators: until the first line has come.
        has_begun: lines have come.
        phases: by the navigators; None where they do not serve.
        counters: those of the lines' image.
        echo: number of the next echo.
        line: counter of the latest line along k1.
        step: from the shot's first line to its second.
    """

    navigators: list[Readouts] = field(default_factory=list)
    has_begun: bool = False
    phases: EchoPhases | None = None
    counters: tuple[int, ...] = ()
    echo: int = 0
    line: int = 0
    step: int = 0

    @property
    def directions(self) -> list[bool]:
        """Which navigators were reversed."""
        return [one for some in self.navigators for one in flagged(some.headers["flags"], _REVERSE).tolist()]

    def useless(self, run: Readouts) -> str | None:
        """Why the navigators do not serve lines; None where they do."""
        directions = self.directions
        n = len(directions)
        if not n:
            return "no navigators came before its lines"
        if n < _FEWEST_NAVIGATORS:
            return f"{n} navigators came before its lines, expected {_FEWEST_NAVIGATORS} or more"
        if any(one == other for one, other in pairwise(directions)):
            order = " ".join("−" if one else "+" for one in directions)
            return f"its navigators run {order} (− for the flag REVERSE), expected directions in turn"
        for some in self.navigators:
            if _layout(some) != _layout(run):
                return (
                    f"its navigators have {_in_words(some)}, its lines {_in_words(run)}: they are of another echo "
                    "spacing"
                )
        return None

    def echoes(self, counters: tuple[int, ...], k1: list[int]) -> npt.NDArray[np.int64]:
        """Numbers in their train of the next echoes, by their image and their phase-encoding counters.

        Shots without navigators of their own begin anew: with another image, or where k1 goes back.
        """
        numbers = []
        for line in k1:
            step = line - self.line
            if counters != self.counters or step * self.step < 0:
                self.counters, self.echo, self.step = counters, 0, 0
            elif not self.step:
                self.step = step
            numbers.append(self.echo)
            self.line, self.echo = line, self.echo + 1
        return np.array(numbers)


@dataclass(slots=True, eq=False)
class _Waiting:
    """Readouts that are to go on in their turn.

    Attributes:
        readouts: what goes on.
        key: the image whose phase is still unknown; None where the readouts are ready.
        image: ``(n, coil, x)``, their transform along the readout, while the phase is unknown.
        backwards: ``(n)``, which of them were reversed.
        is_corrected: by navigators: `readouts` are lines already, and there is no transform.
    """

    readouts: Readouts
    key: tuple[int, ...] | None = None
    image: npt.NDArray[np.complex64] = field(default_factory=lambda: np.zeros((0, 0, 0), np.complex64))
    backwards: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    is_corrected: bool = False
    is_own: bool = False

    def own(self) -> None:
        """Copy what may be a view into a receive buffer."""
        if not self.is_own:
            self.readouts, self.is_own = self.readouts.copy(), True


def _left_alone(encoding: Encoding) -> str:
    return (
        f"the header's trajectory is {encoding.trajectory}, so that stage 'epi' leaves the readouts as they are: "
        "have the header say epi, or take another pipeline"
    )


def _layout(run: Readouts) -> tuple[int, int, float]:
    """Channels, samples and dwell time of readouts."""
    return (*run.samples.shape[1:], float(run.headers["sample_time_us"][0]))


def _in_words(run: Readouts) -> str:
    n_coils, n_samples, dwell_us = _layout(run)
    return f"{n_samples} samples of {dwell_us:g} µs from {n_coils} channels"


def _image_of(header: np.void) -> tuple[int, ...]:
    """The counters of an image, the slice first, and whether it is of calibration lines alone."""
    idx = header["idx"]
    return (*(int(idx[name]) for name in _COUNTERS), int(header["flags"]) & int(_CALIBRATION))


def _run_ends(block: Readouts) -> list[int]:
    """Where readouts of one kind and one image end in a block, also behind one that may be an image's last."""
    headers = block.headers
    flags = headers["flags"]
    changes = different_layout(headers) | flagged(flags[:-1], _ENDS)
    kinds = [
        flagged(flags, _PHASECORR),
        flagged(flags, NOT_IMAGING),
        flagged(flags, _CALIBRATION),
        headers["encoding_space_ref"],
        *(headers["idx"][name] for name in _COUNTERS),
    ]
    for values in kinds:
        changes |= values[1:] != values[:-1]
    return [*(np.flatnonzero(changes) + 1).tolist(), len(headers)]
