"""What the path of a CMRxRecon file says: whose it is, of which scanner and year, and where its mask lies.

::

    2023  MultiCoil/Cine/TrainingSet/{FullSample,AccFactor04}/P001/cine_sax.mat
    2024  MultiCoil/Aorta/ValidationSet/{UnderSample,Mask}_Task1/P001/aorta_sag_{kus,mask}_Uniform8.mat
    2025  MultiCoil/LGE/TrainingSet/FullSample/Center005/Siemens_30T_Vida/P003/lge_lax.mat
    2026  TaskR1&R2/Aorta/TrainSet/Center001/UIH_30T_uMR890/P007/kdata_full.mat
"""

from __future__ import annotations

import re
from pathlib import Path

from scanside.errors import FileFormatError

__all__ = [
    "facts_of",
    "is_map",
    "is_undersampled",
    "kind_of",
    "known_defect",
    "mask_files",
    "subject_of",
]

_PATIENT = re.compile(r"P\d+")
_CENTRE = re.compile(r"Center\d+")
_SCANNER = re.compile(r"(?P<vendor>[^_]+)_(?P<tenths>\d{2,})T_(?P<model>.+)")
_ROOT = re.compile(r"CMRx(?:Recon|4DFlow)(?P<year>20\d\d)", re.IGNORECASE)
_UNDERSAMPLED = re.compile(r"UnderSample_(?=Task)")

_PARTS = {
    "TrainingSet": "training",
    "TrainSet": "training",
    "ValidationSet": "validation",
    "TestSet": "test",
}
_MODALITIES = frozenset(
    {
        *("Aorta", "BlackBlood", "Cine", "Flow2d", "LGE", "Mapping"),
        *("Perfusion", "T1rho", "T1w", "T2w", "Tagging"),
    }
)
_MAPS = re.compile(r"T1map|T2map|T1rho", re.IGNORECASE)
_FIRST_IN_2024 = frozenset({"Aorta", "BlackBlood", "Flow2d", "Tagging"})

_WHOLE = "the file is known to be bad (CMRxRecon 2024)"
_SLICES = "some of its slices are known to be bad (CMRxRecon 2024)"
_DEFECTS = {
    ("P065", "aorta_sag"): _WHOLE,
    ("P077", "aorta_sag"): _WHOLE,
    ("P105", "tagging"): _WHOLE,
    ("P117", "aorta_tra"): _WHOLE,
    ("P087", "tagging"): _SLICES,
    ("P100", "cine_sax"): _SLICES,
    ("P105", "aorta_tra"): _SLICES,
    ("P109", "cine_sax"): _SLICES,
}
"""Fully sampled files of the training set of 2024 that PromptMR+ leaves out, whole or in part."""


def subject_of(path: Path) -> str:
    """Patient, after the centre where there is one: ``P003``, ``Center005/P003``.

    Scanners of one centre, and the challenges' years and parts, count their patients anew. Such patients share a
    name here, so that at worst too many files stay together and never too few.

    Raises:
        FileFormatError: the file does not lie in a folder of a patient.
    """
    folders = _folders(path)
    if not _PATIENT.fullmatch(folders[-1]):
        raise FileFormatError(
            f"it lies in '{folders[-1]}', expected the folder of a patient, such as P003: only the folder tells "
            "whose it is, so keep the challenge's folders"
        )
    centres = [name for name in folders if _CENTRE.fullmatch(name)]
    return "/".join([*centres[-1:], folders[-1]])


def kind_of(path: Path) -> str:
    """What was scanned: ``cine_sax`` of ``cine_sax.mat`` and of ``cine_sax_kus_Uniform8.mat``."""
    return re.split("_kus|_full|_kt", path.stem, maxsplit=1)[0]


def is_map(path: Path) -> bool:
    """Whether images differ by their weighting rather than by time, from which T1, T2 or T1ρ is mapped."""
    return bool(_MAPS.match(path.stem)) or not {"Mapping", "T1rho"}.isdisjoint(_folders(path))


def is_undersampled(path: Path) -> bool:
    """Whether folders or name say so; for arrays that are called the same either way."""
    return "_kus" in path.stem or any(_UNDERSAMPLED.match(name) for name in _folders(path))


def facts_of(path: Path) -> dict[str, str]:
    """All that folders and name tell: kind, modality, part, centre, vendor, model, field strength, year, defect."""
    folders = _folders(path)
    found = {"kind": kind_of(path)}
    for name in folders:
        if name in _MODALITIES:
            found["modality"] = name
        elif name in _PARTS:
            found["part"] = _PARTS[name]
        elif _CENTRE.fullmatch(name):
            found["centre"] = name
    if scanner := _SCANNER.fullmatch(folders[-2]) if len(folders) > 1 else None:
        tenths = scanner["tenths"]  # 30T is 3.0 T, 055T is 0.55 T
        found |= {"vendor": scanner["vendor"], "model": scanner["model"]}
        found |= {"field_strength": f"{tenths[0]}.{tenths[1:]} T"}
    if year := _year(path):
        found["year"] = year
    if defect := known_defect(path):
        found["defect"] = defect
    return found


def known_defect(path: Path) -> str | None:
    """What is known to be wrong with a file; None if nothing is.

    Files of 2023 have the same names: where the path tells no year, it may be the other file.
    """
    folders = _folders(path)
    if _year(path) not in (None, "2024") or "FullSample" not in folders or "ValidationSet" in folders:
        return None
    return _DEFECTS.get((folders[-1], kind_of(path)))


def mask_files(path: Path) -> list[Path]:
    """Where the mask of an undersampled file may lie; the challenges' own place comes first."""
    stem = path.stem
    if stem.startswith("kdata_"):
        names = [stem.replace("kdata_", "usmask_", 1)]
    elif "_kus" in stem:
        names = [stem.replace("_kus", "_mask")]
    else:
        names = [f"{stem}_mask", stem]
    masks = Path(*(_UNDERSAMPLED.sub("Mask_", part) for part in path.parent.parts))
    found = [folder / f"{name}{path.suffix}" for folder in (masks, path.parent) for name in names]
    return [file for file in dict.fromkeys(found) if file != path]


def _folders(path: Path) -> tuple[str, ...]:
    return path.absolute().parent.parts


def _year(path: Path) -> str | None:
    """The challenge's year, as far as the path tells: cine and mapping of 2023 and of 2024 have the same names."""
    folders = _folders(path)
    for name in reversed(folders):
        if found := _ROOT.search(name):
            return found["year"]
    if path.stem.startswith("kdata_"):
        return "2026"
    if any(_CENTRE.fullmatch(name) for name in folders):
        return "2025"
    if any(name.startswith("AccFactor") for name in folders):
        return "2023"
    if _FIRST_IN_2024 & set(folders) or any(_UNDERSAMPLED.match(name) for name in folders):
        return "2024"
    return None
