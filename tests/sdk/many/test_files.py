from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from scanside.datasets.bart_files import write_cfl
from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.errors import ConfigError
from scanside.many.files import Found, find_recordings, read_list, result_names


def test_folders_are_searched(tmp_path: Path) -> None:
    names = [
        "a.h5",
        "deep/er/b.BIN.xz",
        "deep/c.mrd",
        "notes.txt",
        ".hidden/d.h5",
        "out/e.h5",
        "deep.h5/f.dat",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_recordings([tmp_path, tmp_path / "a.h5", tmp_path / "none.h5"], tmp_path / "out")
    assert [one.place for one in found] == ["a", "deep/c", "deep/er/b", "deep.h5/f", "none"]


def test_files_of_data_sets_are_recordings_and_what_lies_beside_them_is_none(tmp_path: Path) -> None:
    for name in ("kspace", "kspace_maps"):
        (tmp_path / "patient").mkdir(exist_ok=True)
        write_cfl(tmp_path / "patient" / name, np.ones((8, 6, 1, 2)))
    folder = tmp_path / "MultiCoil/Cine/TrainingSet/FullSample/P001"
    write_cmrxrecon(folder / "cine_sax.mat", np.ones((1, 1, 2, 8, 6), np.complex64))
    (folder / "cine_sax_mask.mat").touch()
    found = find_recordings([tmp_path], tmp_path / "out")
    assert [Path(one.place).name for one in found] == ["cine_sax", "kspace"]


def test_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"no recordings in .*looked for names that end in .*\.h5"):
        find_recordings([tmp_path], tmp_path / "out")
    with pytest.raises(ConfigError, match="the images would lie among the recordings"):
        find_recordings([tmp_path], tmp_path)


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# scans\n\n  /data/a.h5 \nb c.h5\n"
    (tmp_path / "list.txt").write_text(text)
    assert read_list(tmp_path / "list.txt") == [Path("/data/a.h5"), Path("b c.h5")]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_list(Path("-")) == [Path("/data/a.h5"), Path("b c.h5")]
    (tmp_path / "list.txt").write_bytes(b"\x89HDF\xff")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        read_list(tmp_path / "list.txt")


def test_no_two_results_share_a_name(tmp_path: Path) -> None:
    paths = [Path("/one/scan.h5"), Path("/two/scan.h5"), Path("/three/SCAN.mrd"), Path("/one/other.h5")]
    found = [Found(path, path.stem) for path in paths]
    names = result_names(found, {}, tmp_path)
    assert names[paths[0]] == "scan.h5"
    assert names[paths[3]] == "other.h5"
    assert len({name.casefold() for name in names.values()}) == 4
    # A later run with other neighbours keeps the names.
    known = {str(path): name for path, name in names.items()}
    assert result_names(found[1:], known, tmp_path) == {path: names[path] for path in paths[1:]}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scan.h5").touch()
    with pytest.raises(ConfigError, match="no earlier run of this folder made it"):
        result_names([Found(Path("/one/scan.h5"), "scan")], {}, tmp_path)
