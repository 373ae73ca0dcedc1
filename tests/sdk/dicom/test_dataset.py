"""What an instance tells, and how it is identified."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread

from scanside.dicom.files import encoded
from scanside.errors import FormatError, ShapeError


def rescaled(dataset: Any) -> Any:
    """Values of the reconstruction: a phase's as a reader finds them, others' as the comment tells."""
    assert (dataset.RescaleSlope, dataset.RescaleIntercept) == (1, 0)
    if "RealWorldValueMappingSequence" in dataset:
        (mapping,) = dataset.RealWorldValueMappingSequence
        (unit,) = mapping.MeasurementUnitsCodeSequence
        assert (unit.CodingSchemeDesignator, unit.CodeValue) == ("UCUM", "rad")
        assert mapping.RealWorldValueFirstValueMapped <= dataset.pixel_array.min()
        assert mapping.RealWorldValueLastValueMapped >= dataset.pixel_array.max()
        return dataset.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    found = re.search(r"^Reconstructed value = (\S+) x stored value(?: (\S+))?$", dataset.ImageComments, re.M)
    if found is None:
        return dataset.pixel_array
    return dataset.pixel_array * float(found[1]) + float(found[2] or 0)


def test_replay_gives_the_same_bytes(parts: Any, export: Any) -> None:
    images = [parts.image(slice=i, image_index=i + 1) for i in range(3)]
    first, again = ([encoded(one) for one in export(*images)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 3


def test_every_instance_has_its_identifier(parts: Any, export: Any) -> None:
    """Whatever tells two images apart gives another identifier; brightness does not."""
    one = parts.image()
    names = (
        "average",
        "slice",
        "contrast",
        "phase",
        "repetition",
        "set",
        "image_index",
        "acquisition_time_stamp",
    )
    images = [one, *(parts.image(**{name: 3}) for name in (*names, "measurement_uid"))]
    uids = [dataset.SOPInstanceUID for dataset in export(*images)]
    assert len(set(uids)) == len(images)
    assert [dataset.SOPInstanceUID for dataset in export(one.replace(data=2 * one.data))] == uids[:1]
    volume = export(parts.image(np.ones((2, 3, 6, 8), np.float32)))
    assert len({dataset.SOPInstanceUID for dataset in volume}) == 6
    # Channels in turn at each place.
    assert [dataset.InstanceNumber for dataset in volume] == [1, 3, 5, 2, 4, 6]
    assert "Channel 2 of 2" in volume[5].ImageComments


@pytest.mark.parametrize(
    "changes", [{"m_7": "m_8"}, {"1.2.840.99999.1": "1.2.840.99999.3"}, {"<TR>4000": "<TR>4001"}]
)
def test_another_scan_is_another_series(parts: Any, export: Any, changes: dict[str, str]) -> None:
    (one,), (other,) = (export(parts.image(), xml=xml) for xml in (parts.header(), parts.header(**changes)))
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert (one.StudyInstanceUID != other.StudyInstanceUID) == ("1.2.840.99999.1" in changes)


def test_removing_the_patient_changes_no_identifier(parts: Any, export: Any) -> None:
    """A recording whose person was removed is the same scan."""
    full = parts.header()
    start, end = (
        full.index("<subjectInformation"),
        full.index("</subjectInformation>") + len("</subjectInformation>"),
    )
    (one,), (other,) = (export(parts.image(), xml=xml) for xml in (full, full[:start] + full[end:]))
    assert encoded(one) == encoded(other)


def test_methods_never_share_a_series(parts: Any, export: Any) -> None:
    """Classical, learned and fallback images of one MRD series, and networks with other weights."""
    retrained = {**parts.learned, "ScansideWeights": ["f" * 12, "f" * 64]}
    metas = ({}, {"ScansidePipeline": "sense"}, parts.learned, retrained, parts.fallback)
    found = [export(parts.image(meta=meta))[0] for meta in metas]
    assert len({dataset.SeriesInstanceUID for dataset in found}) == len(metas)
    classical, sense, learned, _, fallback = found
    assert [int(dataset.SeriesNumber) for dataset in found] == [7020, 7020, 7030, 7030, 7024]
    assert classical.SeriesDescription == "grappa: t2_tse_tra"
    assert sense.SeriesDescription == "sense: t2_tse_tra"
    assert learned.SeriesDescription == "LEARNED student (brain-student 1.2.0): t2_tse_tra"
    assert fallback.SeriesDescription == "FALLBACK student: t2_tse_tra"
    assert [dataset.ImageType[4] for dataset in found] == [
        "CLASSICAL",
        "CLASSICAL",
        "LEARNED",
        "LEARNED",
        "CLASSICAL",
    ]


def test_learned_images_name_their_network(parts: Any, export: Any) -> None:
    (dataset,) = export(parts.image(meta=parts.learned))
    (algorithm,) = dataset.ReconstructionAlgorithmSequence
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("brain-student", "1.2.0")
    sha = parts.learned["ScansideWeights"][1]
    for text in (algorithm.AlgorithmParameters, dataset.DerivationDescription):
        assert sha in text
        assert "student" in text
    assert "openvino" in algorithm.AlgorithmParameters
    assert dataset.LossyImageCompression == "00"
    (equipment,) = dataset.ContributingEquipmentSequence
    assert equipment.Manufacturer == "Scanside"
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
    (classical,) = export(parts.image())
    assert "ReconstructionAlgorithmSequence" not in classical
    assert "Classical" in classical.DerivationDescription


def test_images_say_what_is_wrong_with_them(parts: Any, export: Any) -> None:
    (fallback,) = export(parts.image(meta=parts.fallback))
    assert "in place of a learned one: sense: the engine took more than 5 ms" in fallback.ImageComments
    (untrained,) = export(parts.image(meta={**parts.learned, "ScansideFitness": ["12 coils", "R = 9"]}))
    assert "not trained for such scans: 12 coils; R = 9" in untrained.ImageComments
    worse = {**parts.learned, "ScansideCheck": ["worse", "-1.20 dB", "sense", "8 unseen lines"]}
    (doubtful,) = export(parts.image(meta=worse))
    assert "SELF-CHECK: worse, -1.20 dB, sense, 8 unseen lines" in doubtful.ImageComments
    assert "-1.20 dB" in doubtful.ReconstructionAlgorithmSequence[0].AlgorithmParameters
    (partial,) = export(
        parts.image(meta={"ScansideGeometry": "no directions"}).replace(incomplete="half of it")
    )
    assert "INCOMPLETE DATA: half of it" in partial.ImageComments
    assert "GEOMETRY NOT RELIABLE: no directions" in partial.ImageComments
    for dataset in (fallback, untrained, partial):
        assert dataset.ImageComments.startswith("Research use only")
        assert "Research use only" in dataset.DerivationDescription


def test_a_map_of_the_uncertainty_says_that_it_is_one(parts: Any, export: Any) -> None:
    (image,) = export(parts.image(meta={**parts.learned, "DataRole": "Image"}))
    (doubt,) = export(parts.image(meta={**parts.learned, "DataRole": "Uncertainty"}))
    assert "UNCERTAINTY" not in image.ImageType
    assert doubt.ImageType[-1] == "UNCERTAINTY"
    assert "uncertainty map" in doubt.SeriesDescription
    assert "uncertainty" not in image.SeriesDescription


def test_kinds(parts: Any, export: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(6, 8, dtype=torch.complex64, generator=generator)
    magnitude, phase = export(parts.image(data, "complex"))
    assert list(magnitude.ImageType)[:4] == ["DERIVED", "PRIMARY", "OTHER", "M"]
    assert list(phase.ImageType)[:4] == ["DERIVED", "PRIMARY", "PHASE MAP", "P"]
    np.testing.assert_allclose(rescaled(magnitude), data.abs(), atol=2e-4)
    np.testing.assert_allclose(rescaled(phase), data.angle(), atol=1e-4)
    (real,) = export(parts.image(data.real, "real"))
    (imag,) = export(parts.image(data.imag, "imag"))
    np.testing.assert_allclose(rescaled(real), data.real, atol=5e-4)
    np.testing.assert_allclose(rescaled(imag), data.imag, atol=5e-4)
    found = (magnitude, phase, real, imag)
    assert [dataset.ImageType[3] for dataset in found] == ["M", "P", "R", "I"]
    assert [int(dataset.SeriesNumber) for dataset in found] == [7020, 7021, 7022, 7023]
    assert len({dataset.SeriesInstanceUID for dataset in found}) == 4
    assert (phase.WindowCenter, phase.WindowWidth) == (0, 65536)
    assert [dataset.PixelRepresentation for dataset in found] == [0, 1, 1, 1]
    assert ["RealWorldValueMappingSequence" in dataset for dataset in found] == [False, True, False, False]


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["magnitude", "real"])
def test_windows_count_stored_values(parts: Any, export: Any, size: float, kind: str) -> None:
    """Whether a viewer rescales first or not, the object is neither white nor black."""
    data = size * np.linspace(-1 if kind == "real" else 0, 1, 6 * 8, dtype=np.float32).reshape(6, 8)
    (dataset,) = export(parts.image(data, kind))
    stored = dataset.pixel_array.astype(float)
    for shown in (stored, stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)):
        grey = (shown - (float(dataset.WindowCenter) - 0.5)) / (float(dataset.WindowWidth) - 1) + 0.5
        assert ((grey > 0.02) & (grey < 0.98)).mean() > 0.9
        assert np.corrcoef(grey.ravel(), data.ravel())[0, 1] > 0.9999
    np.testing.assert_allclose(rescaled(dataset), data, atol=1e-4 * size)


def test_scaled_images_keep_their_numbers(parts: Any, export: Any) -> None:
    data = (1000 * torch.arange(48, dtype=torch.int32)).to(torch.uint16)
    (dataset,) = export(
        parts.image(data.reshape(6, 8), meta={"RescaleSlope": "0.25", "RescaleIntercept": "-2"})
    )
    assert np.array_equal(dataset.pixel_array, data.reshape(6, 8).numpy())
    np.testing.assert_allclose(rescaled(dataset), 0.25 * data.reshape(6, 8).numpy() - 2)


@pytest.mark.parametrize("told", ["", "seven", "-7", "99999999999"])
def test_a_series_number_that_is_none(parts: Any, export: Any, told: str) -> None:
    xml = parts.header(**{"<initialSeriesNumber>7<": f"<initialSeriesNumber>{told}<"})
    (dataset,) = export(parts.image(), xml=xml)
    assert int(dataset.SeriesNumber) == 1020


def test_scaled_phases_say_their_angle(parts: Any, export: Any) -> None:
    """As they come where hosts want integers."""
    data = torch.tensor([0, 2048, 4095], dtype=torch.int32).to(torch.uint16).expand(6, 3)
    meta = {"RescaleSlope": str(2 * np.pi / 4095), "RescaleIntercept": str(-np.pi)}
    (dataset,) = export(parts.image(data, "phase", meta))
    assert np.array_equal(dataset.pixel_array, data.numpy())
    np.testing.assert_allclose(rescaled(dataset)[0], [-np.pi, 0, np.pi], atol=1e-3)


def test_acquisition(parts: Any, export: Any) -> None:
    (dataset,) = export(parts.image(contrast=1, repetition=2))
    told = {
        "ScanningSequence": ["SE", "IR"],
        "MRAcquisitionType": "2D",
        "RepetitionTime": 4000,
        "EchoTime": 95,
        "EchoNumbers": 2,
        "InversionTime": 2500,
        "FlipAngle": 150,
        "EchoTrainLength": 15,
        "MagneticFieldStrength": 2.89362,
        "ImagingFrequency": 123.2,
        "AcquisitionMatrix": [0, 8, 6, 0],
        "InPlanePhaseEncodingDirection": "COL",
        "PercentPhaseFieldOfView": 75,
        "ParallelReductionFactorInPlane": 2,
        "PatientPosition": "HFS",
        "Manufacturer": "MAKER",
        "StudyDate": "20260304",
        "SeriesTime": "082030.5",
        "AcquisitionDate": "20260304",
        "AcquisitionTime": "101112.002500",
        "TemporalPositionIdentifier": 3,
        "NumberOfTemporalPositions": 4,
        "BodyPartExamined": "HEAD",
    }
    assert {name: dataset[name].value for name in told} == told
    assert "TriggerTime" not in dataset


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("Flash", "fl2d1", "GR"),
        ("EPI", "epfid2d1_64", "EP"),
        ("", "se", "SE"),
        ("TurboSpinEcho", "tse2d1_15", "SE"),
        ("Flash", "mprage3d", ["GR", "IR"]),
        ("", "unheard", "RM"),
    ],
)
def test_scanning_sequence(parts: Any, export: Any, kind: str, name: str, expected: Any) -> None:
    """Of a protocol's inversion time nothing is told where nothing is inverted."""
    (dataset,) = export(parts.image(), xml=parts.header(TurboSpinEcho=kind, tir2d1_15=name))
    assert dataset.ScanningSequence == expected
    assert ("InversionTime" in dataset) == ("IR" in expected)


def test_cine(parts: Any, export: Any) -> None:
    (dataset,) = export(
        parts.image(phase=4, physiology_time_stamp=(100, 0, 0)), xml=parts.header(**parts.cine)
    )
    assert (dataset.ScanOptions, dataset.TriggerTime, dataset.CardiacNumberOfImages) == ("CG", 250, 20)


def test_sparse_header(parts: Any, export: Any) -> None:
    """What a header does not tell is empty or absent, never made up."""
    xml = parts.header()
    for section in ("subjectInformation", "studyInformation", "measurementInformation", "sequenceParameters"):
        xml = xml[: xml.index(f"<{section}>")] + xml[xml.index(f"</{section}>") + len(section) + 3 :]
    (dataset,) = export(parts.image(acquisition_time_stamp=0), xml=xml, patient="header")
    for name in ("StudyDate", "StudyTime", "RepetitionTime", "EchoTime", "PatientPosition", "PatientName"):
        assert not dataset[name].value, name
    for name in ("AcquisitionTime", "FlipAngle", "ProtocolName", "PatientWeight", "PatientIdentityRemoved"):
        assert name not in dataset
    assert dataset.ScanningSequence == "RM"
    assert dataset.SeriesDescription == "grappa"
    assert dcmread(BytesIO(encoded(dataset))).StudyInstanceUID.is_valid


def test_patient_is_left_out(parts: Any, export: Any) -> None:
    (dataset,) = export(parts.image())
    content = encoded(dataset).decode("latin-1")
    assert not [secret for secret in (*parts.secrets, parts.study_uid, parts.frame_uid) if secret in content]
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.DeidentificationMethod
    (other,) = export(parts.image(), xml=parts.header(m_7="m_8"))
    assert (other.StudyInstanceUID, other.FrameOfReferenceUID) == (
        dataset.StudyInstanceUID,
        dataset.FrameOfReferenceUID,
    )
    assert other.PatientID == dataset.PatientID
    (elsewhere,) = export(parts.image(), xml=parts.header(**{parts.study_uid: "1.2.3"}))
    assert elsewhere.PatientID != dataset.PatientID


def test_patient_of_the_header(parts: Any, export: Any) -> None:
    (dataset,) = export(parts.image(), patient="header")
    content = encoded(dataset).decode("latin-1")
    assert not [
        secret for secret in (*parts.secrets, parts.study_uid, parts.frame_uid) if secret not in content
    ]
    assert (dataset.PatientSex, dataset.PatientWeight) == ("F", 70.5)
    assert "PatientIdentityRemoved" not in dataset
    (anonymous,) = export(parts.image())
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert dataset[name].value != anonymous[name].value, "two contents under one identifier"


def test_what_is_no_grey_image(parts: Any, export: Any) -> None:
    with pytest.raises(FormatError, match="colour"):
        export(parts.image(kind="rgb"))
    image = parts.image()
    with pytest.raises(ShapeError, match=r"got shape \(6, 8\)"):
        export(image.replace(data=image.data[0, 0]))


def test_a_series_has_one_matrix_and_one_voxel_size(parts: Any, export: Any) -> None:
    """Whatever MRD series index they bear; the first of an index has the identifiers that it would have alone."""
    images = [parts.image(np.ones(shape, np.float32)) for shape in ((6, 8), (8, 6), (6, 8), (3, 6, 8))]
    finer = parts.image(field_of_view=(40, 30, 5))
    second = parts.image(image_series_index=2)
    one_slice = "<slice><minimum>0</minimum><maximum>0</maximum><center>0</center></slice>"
    xml = parts.header(PHASES=one_slice)
    found = export(*images, finer, second, xml=xml)
    series = [(str(one.SeriesInstanceUID), int(one.SeriesNumber)) for one in found]
    assert series[0] == series[2]
    assert len(set(series)) == len({uid for uid, _ in series}) == len({number for _, number in series}) == 5
    assert series[0][0] == export(images[0], xml=xml)[0].SeriesInstanceUID
    for uid, _ in series:
        same = [one for one in found if one.SeriesInstanceUID == uid]
        assert len({(one.Rows, one.Columns, *one.PixelSpacing) for one in same}) == 1


def test_encoding_space_of_an_image_from_a_file(parts: Any, export: Any) -> None:
    """Matrix and field of view tell it: what is told of the acquisition is that of its own encoding space."""
    first = parts.header()
    encoding = first[first.index("<encoding>") : first.index("</encoding>") + len("</encoding>")]
    other = encoding.replace("<x>8</x><y>6</y>", "<x>4</x><y>3</y>").replace(
        "<x>80</x><y>60</y><z>5</z>", "<x>80</x><y>60</y><z>6</z>"
    )
    other = other.replace("<echoTrainLength>15<", "<echoTrainLength>3<")
    xml = first.replace(encoding, encoding + other)
    image = parts.image(np.ones((3, 4), np.float32), field_of_view=(80, 60, 6))
    lengths = [int(one.EchoTrainLength) for one in export(parts.image(), image, xml=xml)]
    assert lengths == [15, 3]
