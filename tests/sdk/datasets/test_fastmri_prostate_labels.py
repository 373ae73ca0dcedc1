"""Tables of PI-RADS scores, by patient and slice from 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanside.datasets.fastmri_prostate_labels import read_prostate_labels
from scanside.errors import FileFormatError

TABLE = """fastmri_pt_id,slice,PIRADS,fastmri_rawfile,data_split,folder
4,1,1,file_prostate_AXT2_004.h5,test,fastmriIDS_001_to_026
4,13,4,file_prostate_AXT2_004.h5,test,fastmriIDS_001_to_026
5,1,2,file_prostate_AXT2_005.h5,training,fastmriIDS_001_to_026
"""


def test_scores_by_patient_and_slice(tmp_path: Path) -> None:
    path = tmp_path / "t2_slice_level_labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())  # as spreadsheets write it
    assert read_prostate_labels(path) == {(4, 0): 1, (4, 12): 4, (5, 0): 2}


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("PIRADS", "score", r"has no column PIRADS; it has \['fastmri_pt_id', 'slice', 'score'"),
        ("4,13,4", "4,0,4", "line 3 has slice 0 and PIRADS 4, expected slices from 1 on"),
        ("4,13,4", "4,13,6", "line 3 has slice 13 and PIRADS 6, .* scores from 1 to 5"),
        ("4,13,4", "4,13,", "line 3 has PIRADS '', expected a whole number"),
        ("4,13,4", "four,13,4", "line 3 has fastmri_pt_id 'four', expected a whole number"),
        ("4,13,4", "4,1,4", "line 3 gives slice 1 of patient 4 another score than a line before"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(FileFormatError, match=rf"labels\.csv: {text}"):
        read_prostate_labels(path)
