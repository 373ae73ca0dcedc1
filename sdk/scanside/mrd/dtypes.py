"""Binary layout of the MRD (ISMRMRD) headers as packed little-endian NumPy structures.

Field names and order are those of the ISMRM raw data standard (Inati et al., Magn Reson Med 2017;77:411), so
that a header array reads like the standard. One array of ``n`` headers replaces ``n`` Python objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ACQUISITION_HEADER",
    "COUNTERS",
    "ENCODING_COUNTERS",
    "IMAGE_COUNTERS",
    "IMAGE_DTYPES",
    "IMAGE_HEADER",
    "IMAGE_TYPES",
    "SAMPLING_DESCRIPTION",
    "SAMPLING_LIMIT",
    "TICK_MS",
    "WAVEFORM_HEADER",
    "Headers",
    "image_data_type",
]

Headers = npt.NDArray[np.void]
"""An array of one of the structured types below."""

TICK_MS = 2.5
"""Unit of time stamps, as Siemens scanners and the converters count, from midnight; the standard leaves it open."""

COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
"""The encoding counters, in the order in which they stand in a header."""

IMAGE_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
"""Those of which each combination of values has an image of its own."""

ENCODING_COUNTERS = np.dtype([*((name, "<u2") for name in COUNTERS), ("user", "<u2", (8,))])

ACQUISITION_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("idx", ENCODING_COUNTERS),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
"""Header of one readout, 340 bytes."""

IMAGE_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", "<f4", (3,)),
        ("channels", "<u2"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)
"""Header of one image, 198 bytes; ``matrix_size`` and ``field_of_view`` are (x, y, z)."""

WAVEFORM_HEADER = np.dtype(
    {
        "names": [
            "version",
            "flags",
            "measurement_uid",
            "scan_counter",
            "time_stamp",
            "number_of_samples",
            "channels",
            "sample_time_us",
            "waveform_id",
        ],
        "formats": ["<u2", "<u8", "<u4", "<u4", "<u4", "<u2", "<u2", "<f4", "<u2"],
        "offsets": [0, 8, 16, 20, 24, 28, 30, 32, 36],
        "itemsize": 40,
    }
)
"""Header of one waveform, 40 bytes: the one header that the standard does not pack."""

SAMPLING_LIMIT = np.dtype([("min", "<u2"), ("center", "<u2"), ("max", "<u2")])

SAMPLING_DESCRIPTION = np.dtype(
    {
        "names": ["encoded_fov", "recon_fov", "encoded_matrix", "recon_matrix", "limits"],
        "formats": [("<f4", (3,)), ("<f4", (3,)), ("<u2", (3,)), ("<u2", (3,)), (SAMPLING_LIMIT, (3,))],
        "offsets": [0, 12, 24, 30, 36],
        "itemsize": 56,
    }
)
"""How a buffer of reconstruction data was sampled, 56 bytes of which the last two are padding; FOV in mm,
vectors and limits in the order (k0, k1, k2)."""

IMAGE_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<u2"),
    2: np.dtype("<i2"),
    3: np.dtype("<u4"),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
    6: np.dtype("<f8"),
    7: np.dtype("<c8"),
    8: np.dtype("<c16"),
}
"""NumPy type of an image's samples by the number in ``data_type``."""

IMAGE_TYPES = {"magnitude": 1, "phase": 2, "real": 3, "imag": 4, "complex": 5, "rgb": 6}


def image_data_type(dtype: npt.DTypeLike) -> int:
    """Number that stands for a sample type in an image header.

    Raises:
        ValueError: the type has no number in the standard.
    """
    wanted = np.dtype(dtype).newbyteorder("<")
    for number, known in IMAGE_DTYPES.items():
        if known == wanted:
            return number
    names = ", ".join(known.name for known in IMAGE_DTYPES.values())
    raise ValueError(f"MRD images cannot hold {np.dtype(dtype).name} samples; possible are {names}")
