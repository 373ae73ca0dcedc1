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

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from scanside.recon.consistency import Lowering
from scanside_training.models.base import Batch, ModelConfig, film_inputs
from scanside_training.models.consistency import NormalOperator, conjugate_gradients
from scanside_training.models.frames import film_operator, fold, unfold
from scanside_training.models.rules import Consistency, GradientConfig, consistency_steps, initial_weights

__all__ = ["Temporal", "TemporalBody", "TemporalConfig"]

_LEAK = 0.1
_SHARED_WEIGHT = 0.01
"""λ of the image that all frames share: a line that one of twelve frames has still counts nine tenths."""


class TemporalConfig(ModelConfig):
    """Film to film, with data consistency.

    Attributes:
        n_frames: length of the film, which is fixed.
        n_cascades: how often network and data consistency alternate.
        channels: features at half resolution; each pooling doubles them.
        pools: how often frames of half resolution are halved.
        causal: whether a frame is made of itself and those before it only.
        shared_iterations: conjugate-gradient steps to the image that all frames share; none where it is causal.
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
    consistency: Consistency = GradientConfig()
    lowering: Lowering = "fft"

    def build(self) -> Temporal:
        """The network with fresh weights."""
        return Temporal(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2 ** (self.pools + 1))


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


class TemporalBody(nn.Module):
    """A U-Net over frames and time: ``(B · time, n_in, y, x)`` to ``(B · time, n_out, y, x)``.

    Sizes are divisible by ``2**(pools + 1)``. It computes in the precision of its weights and takes and gives
    float32.
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


class Temporal(nn.Module):
    """Task ``dynamic``: from ``Aᴴ y`` of the frames of a film, coil maps and sampling to the film."""

    task = "dynamic"

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple_of = config.multiple_of
        self.n_frames = config.n_frames
        self.networks = nn.ModuleList(TemporalBody(6, 2, config) for _ in range(config.n_cascades))
        self.log_weights = initial_weights(config.consistency, config.n_cascades)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What `forward` takes, from a batch of training samples."""
        return film_inputs(self.config.lowering, batch)

    def forward(
        self, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor, *sampling: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, time, k1, k0)`` ``Aᴴ y`` of every frame, scaled.
            maps: ``(B, coil, 2, k1, k0)`` coil sensitivities.
            noise: ``(B, 1, 1, 1)`` standard deviation of the noise's real and imaginary part in the voxels of a coil,
                on the scale of the image.
            *sampling: the inputs of the lowering (`scanside.recon.consistency.film_sampling_inputs`).

        Returns:
            ``(B, 2, time, k1, k0)`` float32.
        """
        normal = film_operator(self.config.lowering, maps, sampling)
        measured = fold(image)
        x, motion = self._shared_views(image, maps, sampling)
        _, steps = consistency_steps(
            self.config.consistency, normal, measured, self.log_weights.exp(), noise, self.config.n_cascades
        )
        # What data consistency changed last shows the networks where they erred; the first one sees what it is yet to
        # change.
        change = measured - normal(x)
        for network, step in zip(self.networks, steps, strict=True):
            x = x + network(torch.cat((x, motion, change), dim=1))
            change = step(measured - normal(x))
            x = x + change
        # Where no coil sees anything, there are no data, and what the networks put there is nothing.
        seen = maps.square().sum((1, 2)) > 0
        return unfold(x, self.n_frames) * seen[:, None, None]

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
