"""Sources: what is in the files, whose it is, and folders that do not say."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from scanside.errors import ConfigError, FileFormatError
from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
from scanside.simulate import CoilConfig, GeometryConfig, SamplingConfig, ScanConfig, simulate
from scanside_training.data import (
    BrainT1w,
    BrainT2Complex,
    CardiacMagnitude,
    CineSax,
    CoilMapsBrain,
    MrdFolder,
    PhantomArray16,
    SourceConfig,
    Synthetic,
)
from scanside_training.data.splits import PARTS, subjects_of

SMALL = ScanConfig(
    coils=CoilConfig(n_coils=4),
    geometry=GeometryConfig(matrix=(48, 40, 1), fov_mm=(240, 200, 5), n_slices=2),
)


def write_scan(path: Path, config: ScanConfig = SMALL, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scan = simulate(config.model_copy(update={"noise": config.noise.model_copy(update={"seed": seed})}))
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return path


def test_complex_head(shared_data: Path) -> None:
    source = BrainT2Complex(root=shared_data)
    slices = source.open()
    assert len(slices) == 180
    assert slices.subjects == tuple(str(n // 30) for n in range(180))
    with np.load(source.path) as archive:
        for index in (0, 151):
            expected = (archive["iq"][index, 0] + 1j * archive["iq"][index, 1]) * archive["scale"][index]
            np.testing.assert_allclose(slices[index], expected, rtol=1e-6)
    assert slices[0].dtype == np.complex64
    test = subjects_of("test", source.split, slices.subjects, source.kind)
    assert [n for n, subject in enumerate(slices.subjects) if subject in test] == list(range(150, 180))


def test_magnitudes(shared_data: Path) -> None:
    with np.load(BrainT1w(root=shared_data).path) as archive:
        head = BrainT1w(root=shared_data).open()
        assert len(head) == 146
        np.testing.assert_array_equal(head[70], archive["vol"][70])
    with np.load(CardiacMagnitude(root=shared_data).path) as archive:
        heart = CardiacMagnitude(root=shared_data).open()
        assert (len(heart), set(heart.subjects)) == (100, {"unknown"})
        np.testing.assert_array_equal(heart[99], archive["img"][99])
    assert head[0].dtype == heart[0].dtype == np.float32


def test_cine(shared_data: Path) -> None:
    source = CineSax(root=shared_data, frame_step=10)
    slices = source.open()
    assert len(slices) == 250
    with h5py.File(source.path) as file:
        np.testing.assert_array_equal(slices[7], file["frames"][3, 10])
        assert slices.subjects[7] == str(file["subject"][3])
    parts = {part: subjects_of(part, source.split, slices.subjects, source.kind) for part in PARTS}
    assert {part: len(members) for part, members in parts.items()} == {
        "train": 18,
        "validation": 3,
        "test": 4,
    }


def test_brain_beside_the_coil_maps(shared_data: Path) -> None:
    slices = CoilMapsBrain(root=shared_data).open()
    assert (len(slices), slices[0].shape, slices[0].dtype) == (1, (128, 128), np.complex64)


def test_phantom_as_ismrmrd_reads_it(shared_data: Path, tmp_path: Path) -> None:
    source = PhantomArray16(root=shared_data)
    # ISMRMRD's library opens files to write, which changes their date: the data are no test's own.
    copy = shutil.copyfile(source.path, tmp_path / "phantom.h5")
    with ismrmrd.Dataset(copy, "dataset", create_if_needed=False) as dataset:
        kspace = np.zeros((16, 128, 128), np.complex64)
        for number in range(dataset.number_of_acquisitions()):
            readout = dataset.read_acquisition(number)
            kspace[:, readout.idx.kspace_encode_step_1] = readout.data
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    expected = np.sqrt((np.abs(coils) ** 2).sum(0))
    (found,) = (source.open()[index] for index in range(1))
    inside = expected > 0.2 * expected.max()
    np.testing.assert_allclose(np.abs(found)[inside], expected[inside], rtol=0.03)
    assert np.iscomplexobj(found)


def test_licences_cannot_be_changed() -> None:
    licences = {
        source.kind: source.licence
        for source in (
            BrainT2Complex(),
            BrainT1w(),
            CoilMapsBrain(),
            PhantomArray16(),
            CineSax(),
            Synthetic(),
        )
    }
    assert {kind for kind, licence in licences.items() if licence == "clean"} == {
        "brain-t1w",
        "coil-maps-32ch",
        "phantom-array16",
        "synthetic",
    }
    with pytest.raises(ValidationError, match="licence"):
        BrainT2Complex.model_validate({"licence": "clean"})


def test_generated_subjects(small_source: Synthetic) -> None:
    slices = small_source.open()
    assert slices.subjects == tuple(str(n // 2) for n in range(16))
    assert all(slices[index].shape == (64, 64) for index in range(16))


def test_planes_of_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y, x = np.meshgrid(np.arange(10), np.arange(12), np.arange(14), indexing="ij")
    volume = (100 + 20 * z + 5 * y + x).astype(np.uint16)  # axial slices are two pixels apart
    (tmp_path / "brain-t1w").mkdir()
    np.savez(tmp_path / BrainT1w.file, vol=volume)
    monkeypatch.setenv("SCANSIDE_CACHE", str(tmp_path / "cache"))
    slices = BrainT1w(root=tmp_path, planes=("axial", "coronal", "sagittal")).open()
    assert set(slices.subjects) == {"0"}
    assert [slices[i].shape for i in (0, 10, 16)] == [(12, 14), (19, 14), (19, 12)]
    assert len(slices) == 10 + 6 + 7
    np.testing.assert_array_equal(slices[3], volume[3])
    rows = np.arange(19)[:, None]
    np.testing.assert_allclose(slices[11], 100 + 10 * rows + 5 * 2 + np.arange(14), rtol=1e-5)
    np.testing.assert_allclose(slices[17], 100 + 10 * rows + 5 * np.arange(12) + 2, rtol=1e-5)


def test_data_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"t1w_axial_every2\.npz does not exist.*`root`.*SCANSIDE_DATA"):
        BrainT1w().open()


def test_configuration_by_kind() -> None:
    adapter: TypeAdapter[SourceConfig] = TypeAdapter(SourceConfig)
    assert adapter.validate_python({"kind": "cine-sax", "frame_step": 2}) == CineSax(frame_step=2)
    with pytest.raises(ValidationError, match="frame_stop"):
        adapter.validate_python({"kind": "cine-sax", "frame_stop": 2})


def test_folder_with_a_subfolder_per_subject(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna" / "one.h5")
    write_scan(tmp_path / "ben" / "day 1" / "two.h5", seed=1)
    slices = MrdFolder(folder=tmp_path).open()
    assert slices.subjects == ("anna", "anna", "ben", "ben")
    truth = simulate(SMALL).truth
    for index in range(2):
        expected = np.abs(truth.image(index)[0]) * np.sqrt((np.abs(truth.maps[index, :, 0]) ** 2).sum(0))
        found = np.abs(slices[index])
        assert found.shape == (40, 48)
        assert slices[index].dtype == np.complex64
        fit = (found * expected).sum() / (found**2).sum()
        assert np.linalg.norm(fit * found - expected) < 0.15 * np.linalg.norm(expected)


def test_folder_with_a_table(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.h5", "b.h5", "c.h5")):
        write_scan(tmp_path / name, seed=seed)
    (tmp_path / "subjects.csv").write_text("file,subject\na.h5,anna\nc.h5,ben\n")
    assert MrdFolder(folder=tmp_path).open().subjects == ("anna", "anna", "ben", "ben")
    (tmp_path / "subjects.csv").write_text("file,subject\na.h5,anna\nc.h5,anna\n")
    assert set(MrdFolder(folder=tmp_path).open().subjects) == {"anna"}


def test_folder_that_does_not_tell_the_subjects(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna" / "one.h5")
    write_scan(tmp_path / "stray.h5")
    with pytest.raises(
        ConfigError, match=r"does not say whose .*stray\.h5.*'file,subject'.*'stray\.h5,subject-01'"
    ):
        MrdFolder(folder=tmp_path).open()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("name,subject\na.h5,anna\n", "line 2: 'file' or 'subject' is missing"),
        ("file,subject\na.h5,\n", "line 2: 'file' or 'subject' is missing"),
        ("file,subject\na.h5,anna\nb.h5,ben\n", "line 3: there is no file"),
        ("file,subject\n", "holds no file"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, table: str, text: str) -> None:
    write_scan(tmp_path / "a.h5")
    (tmp_path / "subjects.csv").write_text(table)
    with pytest.raises(ConfigError, match=text):
        MrdFolder(folder=tmp_path).open()


@pytest.mark.parametrize(
    "table",
    [
        "file,subject\nä.h5,Müller\n".encode("utf-8-sig"),
        "file;subject\r\nä.h5;Müller\r\n".encode("cp1252"),
        "File\tSubject\nä.h5\tMüller\n".encode("utf-16"),
        "file, subject\nä.h5, Müller\n".encode(),
    ],
    ids=["byte order mark", "semicolons in cp1252", "tabs in UTF-16", "spaces"],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, table: bytes) -> None:
    write_scan(tmp_path / "ä.h5")
    (tmp_path / "subjects.csv").write_bytes(table)
    assert set(MrdFolder(folder=tmp_path).open().subjects) == {"Müller"}


def test_a_table_in_no_known_encoding_is_named(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.h5")
    (tmp_path / "subjects.csv").write_bytes(b"file,subject\na.h5,\x81\x8d\n")
    with pytest.raises(ConfigError, match=r"subjects\.csv is text in no encoding .* UTF-8"):
        MrdFolder(folder=tmp_path).open()


@pytest.mark.parametrize("damage", [b"", b"no HDF5", None], ids=["empty", "text", "cut"])
def test_one_bad_recording_of_many_is_named(tmp_path: Path, damage: bytes | None) -> None:
    write_scan(tmp_path / "anna" / "good.h5")
    bad = write_scan(tmp_path / "ben" / "bad.h5", seed=1)
    bad.write_bytes(bad.read_bytes()[:-4000] if damage is None else damage)
    with pytest.raises((ConfigError, FileFormatError), match=r"ben/bad\.h5"):
        MrdFolder(folder=tmp_path).open()


def test_the_same_recording_under_two_subjects_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna" / "one.h5")
    other = tmp_path / "ben" / "renamed.h5"
    other.parent.mkdir()
    with Hdf5Reader(tmp_path / "anna" / "one.h5") as reader, Hdf5Writer(other, b"<anonymous/>") as writer:
        for block in reader.blocks(max_readouts=7):
            writer.write(block)
    with pytest.raises(
        ConfigError, match=r"renamed\.h5 of subject 'ben' is the same recording as .*one\.h5 of"
    ):
        MrdFolder(folder=tmp_path).open()
    (tmp_path / "subjects.csv").write_text("file,subject\nanna/one.h5,anna\n")
    assert set(MrdFolder(folder=tmp_path).open().subjects) == {"anna"}


def test_folders_without_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no file"):
        MrdFolder(folder=tmp_path).open()
    with pytest.raises(ConfigError, match="is no folder"):
        MrdFolder(folder=tmp_path / "nowhere").open()


def test_an_undersampled_scan_is_no_truth(tmp_path: Path) -> None:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(16, 0))
    write_scan(tmp_path / "anna" / "fast.h5", SMALL.model_copy(update={"sampling": sampling}))
    with pytest.raises(FileFormatError, match=r"fast\.h5 is no fully sampled 2-D scan: \d+ of \d+ lines"):
        MrdFolder(folder=tmp_path).open()


def test_strata_by_the_columns_of_a_folders_table(tmp_path: Path) -> None:
    table = "File,Subject,Site,Date\na1.h5,anna,here,1\na2.h5,anna,here,2\nb.h5,ben,there,3\n"
    (tmp_path / "subjects.csv").write_text(table)
    source = MrdFolder(folder=tmp_path)
    slices = Synthetic(n_subjects=1, slices_per_subject=1, size=32).open()
    assert source.facts(slices, ("Site",)) == {"anna": {"site": "here"}, "ben": {"site": "there"}}
    with pytest.raises(ConfigError, match="line 3: subject 'anna' has date '2', and '1' in a line before"):
        source.facts(slices, ("date",))
