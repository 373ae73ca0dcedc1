"""Films by cascades of a small network that is factorised into space and time.

What changes from frame to frame is little, and what the frames acquired together is a lot. So the network does not
begin with zero-filled frames. One image explains the data of all of them best; from it a sweep goes forward in time
and another one backward, which put each frame's data into what the frame before them is like: lines that a frame
lacks are those of the nearest frames that have them (view sharing, as a block Kaczmarz method: Kaczmarz, Bull Acad
Polon Sci A35:355-357 (1937)). Cascades of a U-Net at half resolution, convolutions in space and along time taking
turns (Tran et al., *A closer look at spatiotemporal convolutions for action recognition*, CVPR 2018; pixels are moved
to channels as in Shi et al., *Real-time single image and video super-resolution*, CVPR 2016), correct what that
leaves of aliasing and motion, and alternate with data consistency (Schlemper et al., IEEE TMI 37:491-503 (2018); Qin
et al., *Convolutional recurrent neural networks for dynamic MR image reconstruction*, IEEE TMI 38:280-290 (2019)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import film_specs
from scanside.recon.consistency import Lowering
from scanside.recon.film_start import Start
from scanside_training.models.base import Body, Network, NetworkConfig, PartConfig
from scanside_training.models.consistency import NormalOperator, conjugate_gradients
from scanside_training.models.frames import film_operator, fold, unfold
from scanside_training.models.rules import Consistency, GradientConfig, consistency_steps, initial_weights

__all__ = ["SubspaceConfig", "Temporal", "TemporalBody", "TemporalConfig"]

_LEAK = 0.1
_SHARED_WEIGHT = 0.01
"""λ of the image that all frames share: a line that one of twelve frames has still counts nine tenths."""


class SubspaceConfig(PartConfig):
    """The film nearest to the data that has few time courses: those which the film has that it starts from.

    ``argmin ‖A x − y‖² + weight ⟨x, D x⟩ + max(pull noise², smallest) ‖x − s‖²``, D being `scarce_courses` and s the
    film that it starts from, by conjugate gradients. Few time courses have
    fewer unknowns than a film has samples, so that few steps lead far (Liang, *Spatiotemporal imaging with
    partially separable functions*, ISBI 2007, 988-991).

    Attributes:
        halvings: a time course that holds less than ``2⁻ⁿ`` of the energy is scarce; this is n. Rounding of fp32
            grows with ``2ⁿ``: 5e-6 of the film with 12, of the 1e-5 by which engines may differ.
        weight: of what they hold against the data.
        pull: of the film that it starts from, which is less noisy, in units of the noise's variance: 1 / the squared
            error that this film is thought to have.
        smallest: the pull is at least this, however quiet the scan: what no lines explain is magnified by its
            reciprocal at most, and so is the rounding by which engines differ.
        iterations: conjugate-gradient steps.
    """

    halvings: int = Field(11, ge=1, le=20)
    weight: float = Field(0.3, gt=0)
    pull: float = Field(40.0, ge=0)
    smallest: float = Field(0.015, ge=0)
    iterations: int = Field(8, ge=1)


class TemporalConfig(NetworkConfig):
    """Film to film, with data consistency.

    Attributes:
        n_frames: length of the film, which is fixed.
        n_cascades: how often network and data consistency alternate.
        channels: features at half resolution; each pooling doubles them.
        pools: how often frames of half resolution are halved.
        causal: whether a frame is made of itself and those before it only.
        shared_iterations: conjugate-gradient steps to the image that all frames share; none where it is causal.
        start: the film that it begins with, given to it (`scanside.recon.film_start`); None for that of its own
            sweeps. All frames make it, so that it goes with no causal network.
        low_rank: for each of these numbers n the networks also see their film without what holds less than about
            ``2⁻ⁿ`` of its energy (`scarce_courses`), in ascending order.
        subspace: fit the film to the data before the first network, with few time courses.
        consistency: how images are made to fit the data.
        lowering: how the normal operator is computed (see `scanside.recon.consistency`); the weights are the same.
    """

    kind: Literal["temporal"] = "temporal"
    n_frames: int = Field(12, ge=2)
    n_cascades: int = Field(3, ge=1)
    channels: int = Field(16, ge=1)
    pools: int = Field(2, ge=1, le=4)
    causal: bool = False
    shared_iterations: int = Field(6, ge=1)
    start: Start | None = None
    low_rank: tuple[Annotated[int, Field(ge=1, le=20)], ...] = ()
    subspace: SubspaceConfig | None = None
    consistency: Consistency = GradientConfig()
    lowering: Lowering = "fft"

    @model_validator(mode="after")
    def _causal_alone(self) -> TemporalConfig:
        if self.causal and (self.start is not None or self.low_rank or self.subspace is not None):
            raise ValueError(
                "'start', 'low_rank' and 'subspace' are made of all frames of a film: leave out 'causal'"
            )
        if list(self.low_rank) != sorted(set(self.low_rank)):
            raise ValueError(f"'low_rank' holds different numbers in ascending order, got {self.low_rank}")
        return self

    def build(self) -> Temporal:
        """The network with fresh weights."""
        return Temporal(self)

    def lowered(self, lowering: Lowering) -> TemporalConfig:
        """The same network with its data consistency written in another way."""
        return self.model_copy(update={"lowering": lowering})

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2 ** (self.pools + 1))


def scarce_courses(x: torch.Tensor, n_frames: int, halvings: Sequence[int]) -> list[torch.Tensor]:
    """What takes time courses out of films that hold little of their energy, by products of small matrices alone.

    C being the correlations of the frames as a matrix (time, time) of trace 1, ``(1 − C)^(2ⁿ)`` leaves nothing of a
    time course that holds much more than ``2⁻ⁿ`` of the film's energy, and one that holds much less as it is.
    Singular values would tell the same, but no engine has them.

    Args:
        x: films ``(B · time, 2, k1, k0)``.
        n_frames: of each.
        halvings: the numbers n, ascending.

    Returns:
        For each of them ``(B, 2 · time, 2 · time)``, real and imaginary part of a frame side by side.
    """
    planes = x.detach().reshape(-1, 2 * n_frames, x.shape[-2] * x.shape[-1])
    # With those of the film times i, products of parts become those of complex numbers.
    real, imaginary = planes.reshape(-1, n_frames, 2, planes.shape[-1]).unbind(2)
    turned = torch.stack((-imaginary, real), 2).flatten(1, 2)
    correlations = planes @ planes.mT + turned @ turned.mT
    identity = torch.eye(2 * n_frames, device=x.device)
    trace = (correlations * identity).sum((1, 2), keepdim=True)  # OpenVINO has no diagonal
    left = identity - correlations / (0.5 * trace + 1e-30)
    found, n = [], 0
    for wanted in halvings:
        for _ in range(wanted - n):
            left = left @ left
        n = wanted
        found.append(left)
    return found


def along_time(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A matrix ``(B, 2 · time, 2 · time)`` of `scarce_courses` times films ``(B · time, 2, k1, k0)``."""
    return (matrix @ x.reshape(len(matrix), -1, x.shape[-2] * x.shape[-1])).reshape(x.shape)


class TimeConv(nn.Module):
    """A convolution along time alone, three frames long, each channel by itself.

    Args:
        channels: of the features.
        n_frames: of the film.
        causal: whether the three end with the frame itself, instead of having it in their middle.
    """

    def __init__(self, channels: int, n_frames: int, causal: bool) -> None:
        super().__init__()
        self.n_frames = n_frames
        self.shifts = (-1, -2) if causal else (-1, 1)
        # It begins as if there were no other frames, but for a little of them that differs from channel to channel.
        taps = torch.cat((torch.ones(1, channels), 0.2 * torch.randn(2, channels)))
        self.taps = nn.Parameter(taps[..., None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B · time, channels, y, x)`` to the same; beyond its ends the film stands still."""
        frames = x.reshape(-1, self.n_frames, *x.shape[1:])
        # Under autocast features are in half precision, and should stay so.
        own, *others = self.taps.to(x.dtype).unbind(0)
        mixed = own * frames
        for tap, shift in zip(others, self.shifts, strict=True):
            mixed = mixed + tap * self._shifted(frames, shift)
        return mixed.flatten(0, 1)

    def _shifted(self, frames: torch.Tensor, shift: int) -> torch.Tensor:
        n = self.n_frames
        edge = 0 if shift < 0 else n - 1
        still = [frames[:, edge : edge + 1]] * abs(shift)
        moving = frames[:, max(shift, 0) : n + min(shift, 0)]
        return torch.cat([*still, moving] if shift < 0 else [moving, *still], dim=1)


class Block(nn.Module):
    """Twice: along time, in space. ``(B · time, n_in, y, x)`` to ``(B · time, n_out, y, x)``."""

    def __init__(self, n_in: int, n_out: int, n_frames: int, causal: bool) -> None:
        super().__init__()
        self.before = TimeConv(n_in, n_frames, causal)
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.between = TimeConv(n_out, n_frames, causal)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        x = leaky_relu(self.first(self.before(x)), _LEAK)
        return leaky_relu(self.second(self.between(x)), _LEAK)


class TemporalBody(Body):
    """A U-Net over frames and time: ``(B · time, n_in, y, x)`` to ``(B · time, n_out, y, x)``.

    Sizes are divisible by ``2**(pools + 1)``.
    """

    def __init__(self, n_in: int, n_out: int, config: TemporalConfig) -> None:
        super().__init__()
        widths = [config.channels * 2**level for level in range(config.pools + 1)]
        ends = (config.n_frames, config.causal)
        self.encoder = nn.ModuleList(
            Block(a, b, *ends) for a, b in zip([4 * n_in, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottleneck = Block(widths[-2], widths[-1], *ends)
        self.narrow = nn.ModuleList(
            nn.Conv2d(b, a, 1) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.decoder = nn.ModuleList(Block(2 * a, a, *ends) for a in widths[-2::-1])
        self.last = nn.Conv2d(widths[0], 4 * n_out, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Without norms, features keep their size only if weights begin with the size that keeps it.
                nn.init.kaiming_normal_(module.weight, _LEAK, nonlinearity="leaky_relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # It begins by changing nothing: the first step is taken from the film that the data give.
        nn.init.zeros_(self.last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network."""
        x = pixel_unshuffle(x.to(self.last.weight.dtype), 2)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = avg_pool2d(x, 2)
        x = self.bottleneck(x)
        for narrow, block in zip(self.narrow, self.decoder, strict=True):
            x = interpolate(narrow(x), scale_factor=2.0, mode="nearest")
            x = block(torch.cat((x, skips.pop()), dim=1))
        return pixel_shuffle(self.last(x), 2).float()


class Temporal(Network):
    """Task ``dynamic``: from ``Aᴴ y`` of the frames of a film, coil maps and sampling to the film."""

    task = "dynamic"
    config: TemporalConfig
    n_frames: int

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__(config)
        self.n_frames = config.n_frames
        self.lowering = config.lowering
        n_in = 2 * ((3 if config.start is None else 2) + len(config.low_rank))
        self.networks = nn.ModuleList(TemporalBody(n_in, 2, config) for _ in range(config.n_cascades))
        self.log_weights = initial_weights(config.consistency, config.n_cascades)

    def offered(self) -> tuple[TensorSpec, ...]:
        """The film, what tells of the scan, and the film that it begins with where it is given one."""
        return film_specs(self.lowering, self.config.start)

    def forward(
        self, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor, *others: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, time, k1, k0)`` ``Aᴴ y`` of every frame, scaled.
            maps: ``(B, coil, 2, k1, k0)`` coil sensitivities.
            noise: ``(B, 1, 1, 1)`` standard deviation of the noise's real and imaginary part in the voxels of a coil,
                on the scale of the image.
            *others: the film that it begins with, like the image, where it is given one; then the inputs of the
                lowering (`scanside.recon.consistency.film_sampling_inputs`).

        Returns:
            ``(B, 2, time, k1, k0)`` float32.
        """
        begun, sampling = ((), others) if self.config.start is None else (others[:1], others[1:])
        normal = film_operator(self.config.lowering, maps, sampling)
        measured = fold(image)
        # Besides the film: where it moves, if that is known.
        x, *motion = map(fold, begun) if begun else self._shared_views(image, maps, sampling)
        _, steps = consistency_steps(
            self.config.consistency, normal, measured, self.log_weights.exp(), noise, self.config.n_cascades
        )
        # What data consistency changed last shows the networks where they erred; the first one sees what it is yet to
        # change.
        if self.config.subspace is not None:
            x, change = self._few_courses(normal, measured, x, noise, self.config.subspace)
        else:
            change = measured - normal(x)
        for network, step in zip(self.networks, steps, strict=True):
            scarce = scarce_courses(x, self.n_frames, self.config.low_rank)
            parts = [x - along_time(matrix, x) for matrix in scarce]
            x = x + network(torch.cat((x, *motion, *parts, change), dim=1))
            change = step(measured - normal(x))
            x = x + change
        # Where no coil sees anything, there are no data, and what the networks put there is nothing.
        seen = maps.square().sum((1, 2)) > 0
        return unfold(x, self.n_frames) * seen[:, None, None]

    def _few_courses(
        self,
        normal: NormalOperator,
        measured: torch.Tensor,
        x: torch.Tensor,
        noise: torch.Tensor,
        config: SubspaceConfig,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The film ``(B · time, 2, k1, k0)`` fitted with few time courses, and ``Aᴴ y − Aᴴ A x`` of it."""
        (scarce,) = scarce_courses(x, self.n_frames, (config.halvings,))

        def of_frames(films: torch.Tensor) -> torch.Tensor:
            return films.reshape(-1, 1, 1, 1, 1).expand(-1, self.n_frames, -1, -1, -1).flatten(0, 1)

        pull = of_frames((config.pull * noise.square()).clamp_min(config.smallest))

        def applied(film: torch.Tensor) -> torch.Tensor:
            return normal(film) + config.weight * along_time(scarce, film) + pull * film

        def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return of_frames((a * b).reshape(len(scarce), -1).sum(1))

        tiny = 1e-30  # an empty film stays empty
        start = x
        residual = direction = measured + pull * x - applied(x)
        energy = dot(residual, residual)
        for _ in range(config.iterations):
            image = applied(direction)
            alpha = energy / (dot(direction, image) + tiny)
            x = x + alpha * direction
            residual = residual - alpha * image
            before, energy = energy, dot(residual, residual)
            direction = residual + energy / (before + tiny) * direction
        return x, residual + config.weight * along_time(scarce, x) + pull * (x - start)

    def _shared_views(
        self, image: torch.Tensor, maps: torch.Tensor, sampling: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A film in which frames have what they lack from those around them, and where it moves.

        Returns:
            ``(B · time, 2, k1, k0)`` each: the mean of what the frames before and those behind say, and the
            difference of the two. Causal, what the frames before say, and what that changes from frame to frame.
        """
        frames, *shared = sampling
        # Sums, not means: exported to ONNX, the axes of a mean are computed, which TensorRT's parser refuses.
        share = 1 / self.n_frames
        together = NormalOperator(self.config.lowering, maps, (share * frames.sum(1), *shared))
        if self.config.causal:
            start = torch.zeros_like(image[:, :, 0])
        else:
            penalty = torch.full((1, 1, 1, 1), _SHARED_WEIGHT, device=image.device)
            start = conjugate_gradients(
                together, share * image.sum(2), penalty, self.config.shared_iterations
            )
        operators = [together.resampled((frames[:, t], *shared)) for t in range(self.n_frames)]

        def sweep(order: range) -> torch.Tensor:
            x, films = start, [start] * self.n_frames
            for t in order:
                x = x + image[:, :, t] - operators[t](x)
                films[t] = x
            return torch.stack(films, dim=1)

        forward = sweep(range(self.n_frames))
        if self.config.causal:
            before = torch.cat((forward[:, :1], forward[:, :-1]), dim=1)
            return forward.flatten(0, 1), (forward - before).flatten(0, 1)
        backward = sweep(range(self.n_frames - 1, -1, -1))
        return (0.5 * (forward + backward)).flatten(0, 1), (forward - backward).flatten(0, 1)
