"""Images as instances of MR Image Storage (DICOM PS3.3 A.4), one for every slice and frame.

The geometry is Scanside's: the voxel with index ``N // 2`` lies at the header's position, rows run along
``read_dir``, columns along ``phase_dir`` and slices along ``slice_dir`` as the scanner gave them, also where that is
left-handed: every slice has a position of its own, and no direction is made from the other two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from scanside.dicom._pydicom import (
    UID,
    Dataset,
    ExplicitVRLittleEndian,
    FileMetaDataset,
    MRImageStorage,
    Sequence,
)
from scanside.dicom.acquisition import describe_acquisition, describe_timing
from scanside.dicom.header import HeaderFields, Patient
from scanside.dicom.order import InstanceOrder, Placed
from scanside.dicom.patient import describe_patient, describe_study
from scanside.dicom.provenance import Kind, Method, describe_method
from scanside.dicom.texts import decimal
from scanside.dicom.uids import IMPLEMENTATION_UID, derived_uid
from scanside.dicom.voxels import GreyScale, Stored
from scanside.errors import FormatError, ShapeError
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.mrd.geometry import Geometry
from scanside.series import SeriesNumbers, grid_of

if TYPE_CHECKING:
    from scanside.items import Image
    from scanside.mrd.header import Encoding
    from scanside.scan import Scan

__all__ = ["DicomExporter"]

_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")
_KINDS = {number: name for name, number in IMAGE_TYPES.items()}


class DicomExporter:
    """Makes DICOM instances from the images of one scan.

    Args:
        scan: the scan; its header tells study, sequence and equipment.
        patient: ``anonymous`` leaves out who was examined; ``header`` tells what the scan's header does.

    Raises:
        MissingExtra: pydicom is not installed (when this module is imported).
    """

    def __init__(self, scan: Scan, patient: Patient = "anonymous") -> None:
        self._scan = scan
        self._fields = HeaderFields(scan.header, patient)
        self._scales: dict[str, GreyScale] = {}
        self._orders: dict[str, InstanceOrder] = {}
        self._numbers = SeriesNumbers()

    def instances(self, image: Image) -> Iterator[Dataset]:
        """The instances of one image: for every channel and z one, of a complex image magnitude and phase.

        They come once their numbers are known (see `InstanceOrder`): with the image, with one after it, or from
        `finish`. The same image gives the same instances, identifiers included, whenever and wherever it is made, as
        long as the images before it are the same.

        Args:
            image: ``(channel, z, y, x)``.

        Raises:
            FormatError: position, directions or field of view cannot be right, or the image is in colour.
            NonFiniteError: NaN or infinite values.
            ShapeError: the data have not four axes.
        """
        data = image.data.detach().cpu().resolve_conj().numpy()
        if data.ndim != 4 or 0 in data.shape:
            raise ShapeError(f"an image needs data (channel, z, y, x), got shape {data.shape}")
        geometry = _geometry(image.header, data.shape)
        for kind, part in _parts(data, _KINDS.get(int(image.header["image_type"]), "magnitude")):
            yield from self._of_kind(image, kind, part, geometry)

    def export(self, images: Iterable[Image]) -> Iterator[Dataset]:
        """The instances of all images of a scan; raises as `instances`."""
        for image in images:
            yield from self.instances(image)
        yield from self.finish()

    def finish(self) -> Iterator[Dataset]:
        """The instances that waited for slices, once no more images will come."""
        for order in self._orders.values():
            yield from order.finish()

    def _of_kind(
        self, image: Image, kind: Kind, data: npt.NDArray[Any], geometry: Geometry
    ) -> Iterator[Dataset]:
        method = Method.of(image.meta, self._scan.pipeline)
        # Whoever made them may have put images of different matrices into one series: DICOM's viewers cannot.
        index = int(image.header["image_series_index"])
        index = self._numbers.number((index, grid_of(image)), index)
        series = derived_uid(
            "series", self._fields.study_uid, self._fields.measurement, *method.key, index, kind
        )
        signed, is_phase = kind in ("real", "imag"), kind == "phase"
        scale = self._scales.setdefault(series, GreyScale(signed=signed, phase=is_phase))
        stored = scale.stored(
            data,
            slope=float(image.meta.first("RescaleSlope") or 1),
            intercept=float(image.meta.first("RescaleIntercept") or 0),
        )
        common = self._common(image, kind, method, index, series)
        if is_phase:
            common.RealWorldValueMappingSequence = Sequence([_mapping(stored)])
        elif (stored.slope, stored.intercept) != (1, 0):
            offset = f" {stored.intercept:+.9g}" if stored.intercept else ""
            common.ImageComments += f"\nReconstructed value = {stored.slope:.9g} x stored value{offset}"
        shape = data.shape[0], data.shape[1]
        made = []
        for channel, z in np.ndindex(shape):
            dataset = deepcopy(common)
            dataset.SOPInstanceUID = derived_uid("instance", series, *_identity(image.header), channel, z)
            if shape[0] > 1:
                dataset.ImageComments += f"\nChannel {channel + 1} of {shape[0]}"
            _place(dataset, geometry, z)
            _fill(dataset, stored, (channel, z))
            dataset.file_meta = _file_meta(dataset.SOPInstanceUID)
            made.append(dataset)
        if series not in self._orders:
            self._orders[series] = InstanceOrder(self._encoding(image))
        counters = {name: int(image.header[name]) for name in _COUNTERS}
        yield from self._orders[series].add(Placed(made, shape, counters, geometry))

    def _common(self, image: Image, kind: Kind, method: Method, index: int, series: str) -> Dataset:
        """What all instances of an image share."""
        fields, encoding = self._fields, self._encoding(image)
        measurement = fields.text("measurementInformation", "initialSeriesNumber") or "1"
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.SOPClassUID = MRImageStorage
        dataset.Modality = "MR"
        describe_patient(dataset, fields)
        describe_study(dataset, fields)
        dataset.SeriesInstanceUID = series
        dataset.SeriesNumber = method.series_number(
            int(measurement) if re.fullmatch("[0-9]{1,6}", measurement) else 1, index, kind
        )
        describe_method(
            dataset, method, kind, image.meta, image.incomplete, fields.header.protocol_name or ""
        )
        describe_acquisition(dataset, fields, encoding, image.header)
        describe_timing(dataset, fields, encoding, image.header)
        return dataset

    def _encoding(self, image: Image) -> Encoding:
        if image.encoding is not None:
            return image.encoding
        # An image that was read back from a file does not tell its encoding space: matrix and field of view do.
        header, encodings = image.header, self._scan.header.encodings
        same = (
            encoding
            for encoding in encodings
            if np.array_equal(encoding.recon.matrix, header["matrix_size"])
            and np.allclose(encoding.recon.field_of_view_mm, header["field_of_view"], rtol=1e-3)
        )
        return next(same, encodings[0])


def _geometry(header: np.void, shape: tuple[int, ...]) -> Geometry:
    try:
        return Geometry.from_readout(header, tuple(header["field_of_view"]), shape[:0:-1])
    except FormatError as error:
        raise FormatError(f"an image cannot be placed in the patient: {error}") from error


def _parts(data: npt.NDArray[Any], kind: str) -> Iterator[tuple[Kind, npt.NDArray[Any]]]:
    if kind == "rgb":
        raise FormatError("an image is in colour, and MR images of DICOM are grey: export its magnitude")
    if np.iscomplexobj(data):
        yield "magnitude", np.abs(data)
        yield "phase", np.angle(data)
    else:
        yield ("magnitude" if kind == "complex" else cast(Kind, kind)), data


def _identity(header: np.void) -> tuple[int, ...]:
    """What distinguishes an image within its series, and a repeated scan from the one before it."""
    names = ("measurement_uid", "acquisition_time_stamp", "image_index", *_COUNTERS)
    return tuple(int(header[name]) for name in names)


def _place(dataset: Dataset, geometry: Geometry, z: int) -> None:
    """Image plane module (PS3.3 C.7.6.2) of one slice."""
    x_mm, y_mm, z_mm = geometry.voxel_size_mm.tolist()
    dataset.ImagePositionPatient = [decimal(value) for value in geometry.image_position_patient(z)]
    dataset.ImageOrientationPatient = [decimal(value) for value in geometry.image_orientation_patient]
    # Between rows first, then between columns.
    dataset.PixelSpacing = [decimal(y_mm), decimal(x_mm)]
    dataset.SliceThickness = decimal(z_mm)
    nx, ny, nz = geometry.matrix
    if nz > 1:
        dataset.SpacingBetweenSlices = decimal(z_mm)
    centre = geometry.centre_of((nx // 2, ny // 2, z))
    dataset.SliceLocation = decimal(round(float(centre @ geometry.slice_dir), 6))


def _fill(dataset: Dataset, stored: Stored, index: tuple[int, int]) -> None:
    """Image pixel, modality LUT and VOI LUT modules (PS3.3 C.7.6.3, C.11.1, C.11.2)."""
    pixels = stored.values[index]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1 if stored.values.dtype == np.int16 else 0
    dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(pixels.min()), int(pixels.max())
    # Said although nothing is rescaled: programs that expect them of every image find what they would assume.
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "0", "US"
    centre, width = stored.window
    # Six digits are more than the eye can tell apart.
    dataset.WindowCenter, dataset.WindowWidth = (decimal(float(f"{n:.6g}")) for n in (centre, width))
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"


def _mapping(stored: Stored) -> Dataset:
    """How angles in radians follow from what is stored (PS3.3 C.7.6.16.2.11)."""
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "rad", "UCUM", "radian"
    item = Dataset()
    item.LUTExplanation, item.LUTLabel = "Phase", "PHASE"
    item.MeasurementUnitsCodeSequence = Sequence([unit])
    vr = "SS" if stored.values.dtype == np.int16 else "US"
    for keyword, value in zip(("First", "Last"), stored.range, strict=True):
        item.add_new(f"RealWorldValue{keyword}ValueMapped", vr, value)
    item.RealWorldValueSlope, item.RealWorldValueIntercept = stored.slope, stored.intercept
    return item


def _file_meta(uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "SCANSIDE"
    return meta
