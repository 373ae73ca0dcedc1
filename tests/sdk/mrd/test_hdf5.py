from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest

from scanside.errors import FileFormatError, ShapeError
from scanside.mrd.dtypes import IMAGE_DTYPES, IMAGE_HEADER, WAVEFORM_HEADER
from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer, groups
from scanside.mrd.messages import ImageMessage
from scanside.mrd.meta import Meta
from scanside.mrd.readouts import Readouts, Waveform

pytestmark = pytest.mark.torch_free

XML = b'<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">\xc3\xa4</ismrmrdHeader>'
META = Meta({"first": "one", "second": ["1", "2"]})


def block(n: int, coils: int, samples: int, dimensions: int = 0, first: int = 0, seed: int = 0) -> Readouts:
    rng = np.random.default_rng(seed)
    headers = Readouts.empty_headers(n)
    headers["scan_counter"] = headers["acquisition_time_stamp"] = first + np.arange(n)
    headers["active_channels"] = coils
    headers["number_of_samples"] = samples
    headers["trajectory_dimensions"] = dimensions
    headers["idx"]["user"] = rng.integers(0, 99, (n, 8))
    headers["position"] = rng.normal(size=(n, 3))
    samples_ = rng.normal(size=(n, coils, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    trajectory = rng.normal(size=(n, samples, dimensions)).astype(np.float32) if dimensions else None
    return Readouts(headers, samples_, trajectory)


def waveform(time_stamp: int = 0, scan_counter: int = 0, channels: int = 2, samples: int = 5) -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)
    header["time_stamp"], header["scan_counter"] = time_stamp, scan_counter
    header["channels"], header["number_of_samples"] = channels, samples
    header["waveform_id"], header["sample_time_us"] = 1, 2500
    data = np.arange(channels * samples, dtype=np.uint32).reshape(channels, samples) + time_stamp
    return Waveform(header[()], data)


def image(dtype: str = "complex64", shape: tuple[int, ...] = (2, 1, 4, 6), series: int = 3) -> ImageMessage:
    header = np.zeros((), IMAGE_HEADER)
    header["image_series_index"] = series
    header["position"] = 1, 2, 3
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return ImageMessage.from_array(data * 1j if data.dtype.kind == "c" else data, META.to_xml(), header[()])


def assert_same(found: Readouts, expected: Readouts) -> None:
    assert found.headers.tobytes() == expected.headers.tobytes()
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert (found.trajectory is None) == (expected.trajectory is None)
    if expected.trajectory is not None:
        np.testing.assert_array_equal(found.trajectory, expected.trajectory)


def assert_same_as_ismrmrd(path: Path, group: str = "dataset") -> int:
    """Every readout is what ismrmrd-python reads; returns how many there are."""
    with ismrmrd.File(path, "r") as file, Hdf5Reader(path, group) as reader:
        expected = file[group].acquisitions[:]
        i = 0
        for readouts in reader.blocks():
            for header, samples, trajectory in zip(
                readouts.headers,
                readouts.samples,
                readouts.trajectory if readouts.trajectory is not None else [None] * len(readouts),
                strict=True,
            ):
                assert bytes(expected[i].getHead()) == header.tobytes()
                np.testing.assert_array_equal(expected[i].data, samples)
                if trajectory is None:
                    assert expected[i].traj.size == 0
                else:
                    np.testing.assert_array_equal(expected[i].traj, trajectory)
                i += 1
        assert i == len(expected) == reader.n_readouts
        assert reader.headers().tobytes() == b"".join(bytes(e.getHead()) for e in expected)
        return i


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Path, list[Readouts]]:
    """A file with noise readouts of their own length, plain readouts, and some with a trajectory."""
    blocks = [block(2, 3, 50), block(70, 3, 16, first=2, seed=1), block(5, 3, 16, 2, first=72, seed=2)]
    with Hdf5Writer(tmp_path / "mixed.h5", XML) as writer:
        for readouts in blocks:
            writer.write(readouts)
    return tmp_path / "mixed.h5", blocks


@pytest.mark.parametrize("name", ["skyra_grappa_r3.h5", "phantom_array16.h5"])
def test_scanner_file_reads_as_ismrmrd_python_reads_it(shared_data: Path, name: str) -> None:
    path = shared_data / "scanner-ismrmrd" / name
    assert assert_same_as_ismrmrd(path) == {"skyra_grappa_r3.h5": 69, "phantom_array16.h5": 128}[name]
    with h5py.File(path) as file, Hdf5Reader(path) as reader:
        assert reader.header_xml == file["dataset/xml"][0].rstrip(b"\0")


def test_image_that_gadgetron_wrote(shared_data: Path) -> None:
    path = shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.gadgetron-4.7.2.h5"
    assert groups(path) == ["img"]
    with Hdf5Reader(path, "img") as reader, h5py.File(path) as file:
        assert reader.image_series() == ["image_1"]
        assert reader.n_readouts == 0
        (found,) = reader.images("image_1")
        (as_item,) = reader.items()
        np.testing.assert_array_equal(found.data, file["img/image_1/data"][0])
        assert found.attributes == file["img/image_1/attributes"][0]
        assert found.data.dtype == np.uint16
        assert tuple(found.header["matrix_size"]) == (192, 144, 1)
        assert as_item.header == found.header


@pytest.mark.parametrize("options", ["-m 32 -c 4", "-m 32 -c 2 -C", "-m 16 -c 1 -k", "-m 8 -c 2 -r 3"])
def test_files_of_the_ismrmrd_library(ismrmrd_generate: str, tmp_path: Path, options: str) -> None:
    path = tmp_path / "scan.h5"
    subprocess.run([ismrmrd_generate, *options.split(), "-o", path], check=True, capture_output=True)
    assert assert_same_as_ismrmrd(path) > 0


def test_ismrmrd_program_reconstructs_our_file(ismrmrd_generate: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.h5", tmp_path / "ours.h5"
    subprocess.run([ismrmrd_generate, "-m", "32", "-c", "4", "-o", theirs], check=True, capture_output=True)
    with Hdf5Reader(theirs) as reader, Hdf5Writer(ours, reader.header_xml) as writer:
        for readouts in reader.blocks(7):
            writer.write(readouts)
    images = []
    for path in (theirs, ours):
        subprocess.run(["ismrmrd_recon_cartesian_2d", path], check=True, capture_output=True)
        with Hdf5Reader(path) as reader:
            (series,) = reader.image_series()
            images += [message.data for message in reader.images(series)]
    assert len(images) == 2
    assert images[0].std() > 0
    np.testing.assert_array_equal(images[1], images[0])


def test_ismrmrd_python_reads_what_we_write(mixed: tuple[Path, list[Readouts]]) -> None:
    path, blocks = mixed
    assert assert_same_as_ismrmrd(path) == 77
    with ismrmrd.Dataset(path, create_if_needed=False) as dataset:
        assert dataset.read_xml_header() == XML
        assert dataset.number_of_acquisitions() == 77
        last = dataset.read_acquisition(76)
    np.testing.assert_array_equal(last.data, blocks[-1].samples[-1])
    assert blocks[-1].trajectory is not None
    np.testing.assert_array_equal(last.traj, blocks[-1].trajectory[-1])


@pytest.mark.parametrize("whole", [True, False], ids=["File", "Dataset"])
def test_what_ismrmrd_python_writes(tmp_path: Path, whole: bool) -> None:
    expected = block(9, 2, 12, 3)
    assert expected.trajectory is not None
    theirs = []
    for header, samples, trajectory in zip(
        expected.headers, expected.samples, expected.trajectory, strict=True
    ):
        acquisition = ismrmrd.Acquisition.from_array(samples, trajectory)
        acquisition.setHead(ismrmrd.AcquisitionHeader.from_buffer_copy(header.tobytes()))
        theirs.append(acquisition)
    path = tmp_path / "theirs.h5"
    if whole:
        with ismrmrd.File(path) as file:
            file["dataset"].acquisitions = theirs
    else:
        with ismrmrd.Dataset(path) as dataset:
            for acquisition in theirs:
                dataset.append_acquisition(acquisition)
    with Hdf5Reader(path) as reader:
        (found,) = reader.blocks()
    assert_same(found, expected)


def test_blocks_end_where_the_shape_changes(mixed: tuple[Path, list[Readouts]]) -> None:
    path, blocks = mixed
    with Hdf5Reader(path) as reader:
        found = list(reader.blocks())
        assert [len(readouts) for readouts in found] == [2, 70, 5]
        for readouts, expected in zip(found, blocks, strict=True):
            assert_same(readouts, expected)
        assert [len(readouts) for readouts in reader.blocks(30)] == [2, 30, 30, 10, 5]
        assert [len(readouts) for readouts in reader.blocks(1)] == [1] * 77
        assert [len(readouts) for readouts in reader.blocks(30, start=40, stop=74)] == [30, 2, 2]


@pytest.mark.parametrize("size", [1, 5, 33, 100])
def test_short_blocks_hold_the_same_readouts(mixed: tuple[Path, list[Readouts]], size: int) -> None:
    path, blocks = mixed
    with Hdf5Reader(path) as reader:
        found = list(reader.blocks(size))
    assert np.concatenate([b.headers for b in found]).tobytes() == b"".join(
        b.headers.tobytes() for b in blocks
    )
    flat = np.concatenate([readouts.samples.ravel() for readouts in found])
    np.testing.assert_array_equal(flat, np.concatenate([readouts.samples.ravel() for readouts in blocks]))


def test_headers_of_a_range(mixed: tuple[Path, list[Readouts]]) -> None:
    path, _ = mixed
    with Hdf5Reader(path) as reader:
        assert reader.headers()["scan_counter"][2:].tolist() == list(range(2, 77))
        assert reader.headers(60, 75)["scan_counter"].tolist() == list(range(60, 75))
        assert len(reader.headers(80, 90)) == 0


def test_blocks_stay_after_closing(mixed: tuple[Path, list[Readouts]]) -> None:
    path, blocks = mixed
    with Hdf5Reader(path) as reader:
        found = list(reader.blocks())
    assert_same(found[1], blocks[1])


@pytest.mark.parametrize("dtype", [known.name for known in IMAGE_DTYPES.values()])
def test_images_come_back(tmp_path: Path, dtype: str) -> None:
    expected = image(dtype)
    expected.nul = True
    with Hdf5Writer(tmp_path / "images.h5") as writer:
        for _ in range(3):
            writer.write(expected)
    with Hdf5Reader(tmp_path / "images.h5") as reader:
        assert reader.image_series() == ["image_3"]
        found = list(reader.images("image_3"))
    assert len(found) == 3
    for message in found:
        assert message.header == expected.header
        assert message.attributes == expected.attributes
        assert message.data.dtype == dtype
        np.testing.assert_array_equal(message.data, expected.data)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "complex64", "complex128"])
def test_ismrmrd_python_reads_our_images(tmp_path: Path, dtype: str) -> None:
    expected = image(dtype)
    path = tmp_path / "images.h5"
    with Hdf5Writer(path) as writer:
        writer.write(expected)
    with ismrmrd.Dataset(path, create_if_needed=False) as dataset:
        found = dataset.read_image("image_3", 0)
    np.testing.assert_array_equal(found.data, expected.data)
    assert bytes(found.getHead()) == expected.header.tobytes()
    if dtype in ("uint16", "float32"):  # its File cannot read complex images
        with ismrmrd.File(path, "r") as file:
            (again,) = file["dataset/image_3"].images[:]
        np.testing.assert_array_equal(again.data, expected.data)
        assert Meta.parse(again.attribute_string) == META


@pytest.mark.parametrize("dtype", ["uint16", "complex64"])
def test_image_that_ismrmrd_python_wrote(tmp_path: Path, dtype: str) -> None:
    expected = image(dtype)
    header = ismrmrd.ImageHeader.from_buffer_copy(expected.header.tobytes())
    theirs = ismrmrd.Image(header, expected.attributes.decode())
    theirs.data[:] = expected.data
    with ismrmrd.Dataset(tmp_path / "theirs.h5") as dataset:
        dataset.append_image("image_3", theirs)
    with Hdf5Reader(tmp_path / "theirs.h5") as reader:
        (found,) = reader.images("image_3")
    np.testing.assert_array_equal(found.data, expected.data)
    assert Meta.parse(found.attributes) == META
    found.header["attribute_string_len"] = expected.header["attribute_string_len"]  # it prints its own XML
    assert found.header == expected.header


def test_images_of_another_size_or_type_go_beside(tmp_path: Path) -> None:
    path = tmp_path / "images.h5"
    others = [image("uint16", (1, 1, 8, 6)), image("float32"), image("uint16", series=10)]
    with Hdf5Writer(path) as writer:
        for message in [image("uint16"), *others, image("uint16")]:
            writer.write(message)
    with Hdf5Reader(path) as reader:
        assert reader.image_series() == [
            "image_3",
            "image_3_1x1x8x6_uint16",
            "image_3_2x1x4x6_float32",
            "image_10",
        ]
        assert [len(list(reader.images(name))) for name in reader.image_series()] == [2, 1, 1, 1]
        (found,) = reader.images("image_3_1x1x8x6_uint16")
    np.testing.assert_array_equal(found.data, others[0].data)


def test_waveforms_come_back_and_ismrmrd_python_reads_them(tmp_path: Path) -> None:
    expected = [waveform(5), waveform(6, channels=1, samples=0), waveform(7, channels=4, samples=3)]
    path = tmp_path / "waveforms.h5"
    with Hdf5Writer(path) as writer:
        for piece in expected:
            writer.write(piece)
    with Hdf5Reader(path) as reader:
        assert reader.n_waveforms == 3
        found = list(reader.waveforms())
        assert [type(item) for item in reader.items()] == [Waveform] * 3
    with ismrmrd.Dataset(path, create_if_needed=False) as dataset:
        theirs = [dataset.read_waveform(i) for i in range(3)]
    for ours, again, other in zip(expected, found, theirs, strict=True):
        assert again.header == ours.header
        np.testing.assert_array_equal(again.data, ours.data)
        assert bytes(other.getHead()) == ours.header.tobytes()
        np.testing.assert_array_equal(other.data, ours.data)


def test_waveform_that_ismrmrd_python_wrote(tmp_path: Path) -> None:
    data = np.arange(6, dtype=np.uint32).reshape(2, 3)
    with ismrmrd.Dataset(tmp_path / "theirs.h5") as dataset:
        dataset.append_waveform(ismrmrd.Waveform.from_array(data, waveform_id=2, time_stamp=17))
    with Hdf5Reader(tmp_path / "theirs.h5") as reader:
        (found,) = reader.waveforms()
    np.testing.assert_array_equal(found.data, data)
    assert (found.header["waveform_id"], found.header["time_stamp"]) == (2, 17)


def order(path: Path) -> list[object]:
    """Scan counters of readouts, and ``("w", time stamp or counter)`` of waveforms, as they are delivered."""
    found: list[object] = []
    with Hdf5Reader(path) as reader:
        for item in reader.items():
            if isinstance(item, Readouts):
                found += item.headers["scan_counter"].tolist()
            else:
                assert isinstance(item, Waveform)
                found.append(("w", int(item.header["time_stamp"]) or int(item.header["scan_counter"])))
    return found


def test_waveforms_are_merged_by_time_stamp(tmp_path: Path) -> None:
    with Hdf5Writer(tmp_path / "scan.h5") as writer:
        readouts = block(6, 1, 4, first=10)
        readouts.headers["acquisition_time_stamp"] = [100, 110, 200, 120, 130, 300]  # steps back
        writer.write(readouts)
        for time_stamp in (90, 100, 150, 109, 400):
            writer.write(waveform(time_stamp, scan_counter=10))
    expected = [("w", 90), 10, ("w", 100), 11, ("w", 150), ("w", 109), 12, 13, 14, 15, ("w", 400)]
    assert order(tmp_path / "scan.h5") == expected


def test_waveforms_without_time_stamps_are_merged_by_scan_counter(tmp_path: Path) -> None:
    with Hdf5Writer(tmp_path / "scan.h5") as writer:
        for counter in (10, 12):
            writer.write(waveform(scan_counter=counter))
        writer.write(block(4, 1, 4, first=10))
    assert order(tmp_path / "scan.h5") == [10, ("w", 10), 11, 12, ("w", 12), 13]


def test_no_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"\x03\x00 an ISMRMRD stream under a false name")
    with pytest.raises(FileFormatError, match=r"not an HDF5 file.*an ISMRMRD.*open_recording"):
        Hdf5Reader(path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match="not an HDF5 file"):
        Hdf5Reader(path)
    with pytest.raises(FileNotFoundError):
        Hdf5Reader(tmp_path / "absent.h5")


def test_absent_groups_tables_and_series_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path, group="other") as writer:
        writer.write(image())
    assert groups(path) == ["other"]
    with pytest.raises(
        FileFormatError, match="no group 'dataset', only 'other', which is taken without --group"
    ):
        Hdf5Reader(path, "dataset")
    with Hdf5Reader(path, "other") as reader:
        with pytest.raises(FileFormatError, match=r"lacks the table 'xml'.*holds 'image_3'"):
            _ = reader.header_xml
        with pytest.raises(FileFormatError, match="lacks the table 'data'"):
            next(reader.blocks())
        with pytest.raises(FileFormatError, match=r"no image series 'image_4'; it has: image_3"):
            next(reader.images("image_4"))


def in_groups(path: Path, *names: str) -> Path:
    """A file with an image in each of some groups, whose series index is the group's place from 1."""
    parts = []
    for i, name in enumerate(names, 1):
        with Hdf5Writer(path.with_suffix(f".{i}"), group="one") as writer:
            made = image()
            made.header["image_series_index"] = i
            writer.write(made)
        parts.append((name, path.with_suffix(f".{i}")))
    with h5py.File(path, "w") as file:
        for name, part in parts:
            with h5py.File(part) as source:
                source.copy("one", file, name)
    return path


@pytest.mark.parametrize(
    ("names", "asked", "series"),
    [
        (("dataset", "other"), None, "image_1"),
        (("other", "dataset"), None, "image_2"),
        (("2026-01-02 12:00:00",), None, "image_1"),
        (("a", "b"), "b", "image_2"),
    ],
)
def test_which_group_is_read(tmp_path: Path, names: tuple[str, ...], asked: str | None, series: str) -> None:
    with Hdf5Reader(in_groups(tmp_path / "scan.h5", *names), asked) as reader:
        assert reader.image_series() == [series]
        assert reader.group == names[int(series[-1]) - 1]


def test_tables_in_no_group_at_all(mixed: tuple[Path, list[Readouts]], tmp_path: Path) -> None:
    with h5py.File(mixed[0]) as source, h5py.File(tmp_path / "flat.h5", "w") as file:
        for name in source["dataset"]:
            source.copy(f"dataset/{name}", file, name)
        file.create_group("notes")
    with Hdf5Reader(tmp_path / "flat.h5") as reader, Hdf5Reader(mixed[0]) as expected:
        assert (reader.group, reader.n_readouts) == ("/", expected.n_readouts)


def test_advice_about_groups_can_be_followed(tmp_path: Path) -> None:
    path = in_groups(tmp_path / "scan.h5", "a", "b")
    for asked, said in (
        (None, "has 2 groups, 'a', 'b', and none"),
        ("c", "no group 'c': choose one of 'a', 'b'"),
    ):
        with pytest.raises(FileFormatError, match=f"{said}.* with --group NAME"):
            Hdf5Reader(path, asked)
    for name in groups(path):
        Hdf5Reader(path, name).close()


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["volume"] = np.zeros(3)
        file["notes/author"] = "n"
    for asked in (None, "volume"):
        with pytest.raises(FileFormatError, match=r"HDF5 of another kind.* it has 'notes', 'volume'"):
            Hdf5Reader(path, asked)


def test_fastmri_is_recognised_and_the_advice_works(tmp_path: Path) -> None:
    path, converted = tmp_path / "fastmri.h5", tmp_path / "converted.h5"
    rng = np.random.default_rng(1)
    kspace = (rng.standard_normal((2, 3, 8, 6)) + 1j * rng.standard_normal((2, 3, 8, 6))).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["ismrmrd_header"], file["kspace"] = HEADER, kspace
        file["reconstruction_rss"] = np.zeros((2, 6, 6), np.float32)
    for asked in (None, "kspace", "dataset"):
        with pytest.raises(
            FileFormatError, match=r"fastMRI .* Readouts with scanside\.mrd\.hdf5\.Hdf5Writer"
        ) as told:
            Hdf5Reader(path, asked)
        assert "group" not in str(told.value)
    with h5py.File(path) as file, Hdf5Writer(converted, file["ismrmrd_header"][()]) as writer:
        for i, one_slice in enumerate(file["kspace"]):
            headers = Readouts.empty_headers(6)
            headers["idx"]["slice"], headers["idx"]["kspace_encode_step_1"] = i, range(6)
            headers["active_channels"], headers["number_of_samples"] = one_slice.shape[:2]
            writer.write(Readouts(headers, np.moveaxis(one_slice, -1, 0)))
    with Hdf5Reader(converted) as reader:
        assert reader.header_xml == HEADER
        (first, *_) = reader.blocks()
    np.testing.assert_array_equal(first.samples[6:8], kspace[1, :, :, :2].transpose(2, 0, 1))


HEADER = b"<ismrmrdHeader/>"


@pytest.mark.parametrize(
    "stored",
    [
        HEADER,
        HEADER.decode(),
        [HEADER],
        np.array(HEADER + b"\0\0"),
        np.array([HEADER]),
        np.frombuffer(HEADER + b"\0", np.uint8),
        np.frombuffer(HEADER, np.uint8).reshape(1, -1).astype(np.uint16),
    ],
    ids=["bytes", "text", "list", "fixed", "fixed list", "numbers", "numbers of MATLAB"],
)
def test_header_in_any_kind_of_text(tmp_path: Path, stored: object) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dataset/xml"] = stored
    with Hdf5Reader(tmp_path / "a.h5") as reader:
        assert reader.header_xml == HEADER


@pytest.mark.parametrize("stored", [h5py.Empty("S1"), np.zeros(0, "S1"), None])
def test_header_that_holds_nothing(tmp_path: Path, stored: object) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if stored is None:
            file.create_group("dataset/xml")
        else:
            file["dataset/xml"] = stored
    with (
        Hdf5Reader(tmp_path / "a.h5") as reader,
        pytest.raises(FileFormatError, match="what has its name is empty"),
    ):
        _ = reader.header_xml


def test_truncated_file(mixed: tuple[Path, list[Readouts]], tmp_path: Path) -> None:
    whole = mixed[0].read_bytes()
    cut = tmp_path / "cut.h5"
    for size in [8, 50, 96, 500, *range(2000, len(whole) - 1, 2000), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=r"truncated|HDF5"), Hdf5Reader(cut) as reader:
            list(reader.blocks())


def test_samples_that_do_not_fit_their_header(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path) as writer:
        writer.write(block(4, 2, 8))
    with h5py.File(path, "r+") as file:
        record = file["dataset/data"][2]
        record["data"] = np.zeros(30, np.float32)
        file["dataset/data"][2] = record
    with (
        Hdf5Reader(path) as reader,
        pytest.raises(FileFormatError, match=r"record 2 .* holds 30 .* announces 32"),
    ):
        list(reader.blocks())


def test_foreign_table_under_the_name_of_readouts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["dataset/data"] = np.zeros((4, 4))
    with Hdf5Reader(tmp_path / "scan.h5") as reader, pytest.raises(FileFormatError, match="no ISMRMRD table"):
        list(reader.blocks())


def test_file_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("an older file")
    writer = Hdf5Writer(path, XML)
    writer.write(block(3, 1, 4))
    assert path.read_text() == "an older file"
    writer.close()
    writer.close()
    with Hdf5Reader(path) as reader:
        assert reader.n_readouts == 3
    assert not path.with_name("scan.h5.part").exists()


def test_after_an_error_the_part_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"

    def write() -> None:
        with Hdf5Writer(path, XML) as writer:
            writer.write(block(3, 1, 4))
            raise RuntimeError("the scanner stopped")

    with pytest.raises(RuntimeError, match="the scanner stopped"):
        write()
    assert not path.exists()
    with Hdf5Reader(tmp_path / "scan.h5.part") as reader:
        assert reader.n_readouts == 3


def test_writer_copies_borrowed_samples(tmp_path: Path) -> None:
    readouts = block(3, 1, 4)
    expected = readouts.copy()
    with Hdf5Writer(tmp_path / "scan.h5") as writer:
        writer.write(readouts)
        readouts.samples[:] = 0
        readouts.headers["scan_counter"] = 99
    with Hdf5Reader(tmp_path / "scan.h5") as reader:
        assert_same(next(reader.blocks()), expected)


def test_writer_refuses_what_no_file_holds(tmp_path: Path) -> None:
    writer = Hdf5Writer(tmp_path / "scan.h5")
    with pytest.raises(TypeError, match="not dict"):
        writer.write({})  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\(channel, z, y, x\)"):
        writer.write(ImageMessage(image().header, b"", np.zeros((2, 2), np.float32)))
    writer.close()


def test_faster_than_ismrmrd_python(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path) as writer:
        writer.write(block(1000, 8, 256))

    def seconds_per_readout(n: int, read: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            read()
            times.append(time.perf_counter() - start)
        return min(times) / n

    with ismrmrd.Dataset(path, create_if_needed=False) as dataset:
        loop = seconds_per_readout(20, lambda: [dataset.read_acquisition(i) for i in range(20)])
    with ismrmrd.File(path, "r") as file:
        acquisitions = file["dataset"].acquisitions
        slices = seconds_per_readout(1000, lambda: [acquisitions[i : i + 250] for i in range(0, 1000, 250)])
    with Hdf5Reader(path) as reader:
        ours = seconds_per_readout(1000, lambda: list(reader.blocks()))
    assert ours < loop / 10
    assert ours < slices
