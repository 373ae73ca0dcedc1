"""Image finishing: recon space, kind of image, scaling, meta attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator

from scanside._version import __version__
from scanside.errors import NonFiniteError
from scanside.items import Image
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.recon.resize import resample_fov
from scanside.scan import Scan, ScanEnd
from scanside.series import ImageNumbers, SeriesNumbers
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import is_finite

__all__ = ["Finish"]

_UINT16_MAX = 65535
_NOISE_FACTORS = {"snr": 10.0, "g-factor": 100.0, "deviation": 1000.0}
"""What Gadgetron's chains multiply maps of the noise by, to send them as integers."""


class Finish(Stage[Image, Image]):
    """Brings images into the header's recon space and into the form in which they are sent.

    The matrix and field of view become those of the recon space, the voxel at the header's position stays
    where it was. Images of different encoding spaces, matrices or voxel sizes never share a series: those of
    encoding space 0 have the series number of the settings, those of space n the n-th after it. Maps of the
    uncertainty of images, which some networks tell, are series of their own, 40 after those of their images, and are
    sent as magnitudes whatever `kind` is: nothing takes them for images. Maps of the noise follow them, as integers:
    the SNR times 10, the g-factor times 100 and the standard deviation times 1000, as Gadgetron's chains send them;
    RescaleSlope leads back. Meta attributes say which pipeline of which version made the image, what the operator was
    warned of, and whether data were missing.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            kind: what is sent: ``magnitude``, ``phase`` (radians), ``real``, ``imag`` or ``complex``.
            scaling: ``none`` keeps the values (float32, or complex64): they stay comparable between images and
                scans. ``factor`` multiplies by `factor` and rounds to uint16; values outside 0 to `largest` are cut
                off, and the operator is told how many. ``fill`` gives every image its own factor so that its
                largest value is `largest`, and, where there are negative values, an offset so that its smallest is 0:
                uint16 without clipping. ``scan`` does the same with one factor for all images of a scan, and for
                phases with that of the whole circle: what MRD hosts (FIRE, OpenRecon) expect, with `largest` 4095.
                The images wait for the scan's end, where its largest value is known. The meta attributes
                RescaleSlope and RescaleIntercept lead back. Complex images cannot be scaled.
            factor: for ``factor``.
            largest: the largest integer, instead of 65535.
            series: image series index of the images of encoding space 0; those of other spaces follow.
        """

        kind: Literal["magnitude", "phase", "real", "imag", "complex"] = "magnitude"
        scaling: Literal["none", "factor", "fill", "scan"] = "none"
        factor: float = Field(1.0, gt=0)
        largest: int = Field(_UINT16_MAX, ge=1, le=_UINT16_MAX)
        series: int = Field(1, ge=0, le=65535)

        @model_validator(mode="after")
        def _can_be_scaled(self) -> Finish.Config:
            if self.kind == "complex" and self.scaling != "none":
                raise ValueError(
                    f"complex images cannot be scaled to uint16: set scaling 'none', not '{self.scaling}'"
                )
            return self

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan: numbers of series and images begin anew."""
        self._scan = scan
        self._n_images = 0
        self._numbers = ImageNumbers()
        self._series = SeriesNumbers()
        self._waiting: list[Image] = []

    def process(self, item: Image) -> Iterator[Image]:
        """Finish one image, or keep it until the scan's scale is known."""
        image = self._in_recon_space(item)
        is_map = item.what != "image"
        data = image.data.abs() if is_map else self._of_kind(image.data)
        if not is_finite(data):
            raise NonFiniteError(
                f"image {self._n_images + 1} (slice {int(item.header['slice'])}, repetition "
                f"{int(item.header['repetition'])}) holds NaN or infinite values: a stage before this one made "
                "them from finite data; look at its calibration"
            )
        self._n_images += 1
        header = image.header.copy()
        header["image_type"] = IMAGE_TYPES["magnitude" if is_map else self.config.kind]
        header["image_series_index"] = self._series.of(image, self.config.series)
        made = image.replace(data=data, header=header, meta=image.meta.copy())
        header["image_index"] = self._numbers.number(made)
        if self.config.scaling == "scan":
            self._waiting.append(made)
        else:
            yield self._sent(made, self._extent([made]))

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """Give the images that waited."""
        extents = {
            what: self._extent([image for image in self._waiting if image.what == what])
            for what in {image.what for image in self._waiting}
        }
        for image in self._waiting:
            yield self._sent(image, extents[image.what])

    def close(self) -> None:
        """Forget the scan."""
        self._waiting = []

    def _sent(self, image: Image, extent: tuple[float, float]) -> Image:
        """The image in the form in which it is sent; ``extent`` is what its integers have to cover."""
        if image.what in _NOISE_FACTORS:
            data, slope, intercept = self._multiplied(image, _NOISE_FACTORS[image.what], _UINT16_MAX)
        else:
            data, slope, intercept = self._scaled(image, extent)
        sent = image.replace(data=data)
        self._describe(sent, slope, intercept)
        return sent

    def _in_recon_space(self, image: Image) -> Image:
        if image.encoding is None:
            return image
        recon = image.encoding.recon
        fov = image.header["field_of_view"].tolist()
        data = resample_fov(image.data, fov, recon.field_of_view_mm, recon.matrix, (-1, -2, -3))
        header = image.header.copy()
        header["matrix_size"] = recon.matrix
        header["field_of_view"] = recon.field_of_view_mm
        return image.replace(data=data, header=header)

    def _of_kind(self, data: torch.Tensor) -> torch.Tensor:
        kind = self.config.kind
        if kind == "magnitude":
            return data.abs()
        if kind == "complex":
            return data.to(torch.complex64)
        if kind == "phase":
            return data.angle()
        return data.real if kind == "real" else data.imag

    def _extent(self, images: Sequence[Image]) -> tuple[float, float]:
        """What integers have to cover: the smallest value, at most 0, and the largest of some images."""
        phases = self.config.kind == "phase" and all(image.what == "image" for image in images)
        if self.config.scaling == "scan" and phases:
            return -math.pi, math.pi
        if not images or self.config.scaling in ("none", "factor"):
            return 0.0, 0.0
        data = [image.data for image in images]
        return min(0.0, *(float(one.min()) for one in data)), max(float(one.max()) for one in data)

    def _scaled(self, image: Image, extent: tuple[float, float]) -> tuple[torch.Tensor, float, float]:
        """The data in the form in which they are sent, and slope and intercept that lead back."""
        data, largest = image.data, self.config.largest
        if self.config.scaling == "none":
            return data, 1.0, 0.0
        if self.config.scaling in ("fill", "scan"):
            lowest, highest = extent
            span = highest - lowest if highest > lowest else 1.0
            # Divided first: a factor of its own would overflow for the tiny values of some raw data.
            scaled = ((data - lowest) / span * largest).round()
            return scaled.clamp(0, largest).to(torch.uint16), span / largest, lowest
        return self._multiplied(image, self.config.factor, largest)

    def _multiplied(self, image: Image, factor: float, largest: int) -> tuple[torch.Tensor, float, float]:
        """Integers that are the data times a factor; the operator is told of those that are cut off."""
        scaled = (image.data * factor).round()
        outside = int(((scaled > largest) | (scaled < 0)).sum())
        if outside:
            is_map = image.what in _NOISE_FACTORS
            self._scan.warn(
                f"{outside} voxels of {f'a map ({image.what})' if is_map else 'an image'} lie outside 0 to {largest} "
                f"after scaling by {factor:g} and are cut off"
                + ("" if is_map else ": use a smaller finish.factor, or scaling 'fill'")
            )
        return scaled.clamp(0, largest).to(torch.uint16), 1.0 / factor, 0.0

    def _describe(self, image: Image, slope: float, intercept: float) -> None:
        meta = image.meta
        comment = ["Research use only"]
        if image.what != "image":
            comment.append(f"{image.what.upper()} MAP, NOT AN IMAGE")
        meta["DataRole"] = [image.what.capitalize()]
        meta["ImageProcessingHistory"] = ["Scanside", self._scan.pipeline]
        meta["ImageComment"] = comment
        meta["ImageRowDir"] = [f"{value:.8f}" for value in image.header["read_dir"]]
        meta["ImageColumnDir"] = [f"{value:.8f}" for value in image.header["phase_dir"]]
        meta["Keep_image_geometry"] = ["1"]
        meta["ScansideVersion"] = [__version__]
        meta["ScansidePipeline"] = [self._scan.pipeline]
        if image.data.dtype == torch.uint16:
            meta["RescaleSlope"] = [repr(slope)]
            meta["RescaleIntercept"] = [repr(intercept)]
        if self.config.scaling != "none" and image.what not in _NOISE_FACTORS:
            meta["WindowCenter"] = [str((self.config.largest + 1) // 2)]
            meta["WindowWidth"] = [str(self.config.largest + 1)]
        if self._scan.warnings:
            meta["ScansideWarning"] = list(self._scan.warnings)
        if image.incomplete is not None:
            meta["ScansideIncomplete"] = [image.incomplete]
            meta["ImageComment"] = [*comment, "INCOMPLETE DATA"]
        if self._scan.header.measurement_id:
            meta["measurementID"] = [self._scan.header.measurement_id]
