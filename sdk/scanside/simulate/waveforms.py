"""An ECG-like waveform to go with a scan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scanside.mrd.dtypes import TICK_MS, WAVEFORM_HEADER
from scanside.mrd.readouts import Waveform
from scanside.simulate.config import ScanConfig

__all__ = ["ECG_ID", "ecg"]

ECG_ID = 0
"""``waveform_id`` of an ECG in the standard."""

_BASELINE = 2048
# Deflections of one beat: time as a share of the beat, width, height.
_PEAKS = (
    (0.84, 0.025, 160),
    (0.978, 0.006, -140),
    (0.0, 0.009, 1100),
    (0.022, 0.007, -240),
    (0.30, 0.045, 300),
)


def ecg(config: ScanConfig) -> Iterator[Waveform]:
    """Pieces of an ECG without end, from the start of the scan on.

    Channel 0 holds the ECG around 2048, channel 1 is one at the sample of each R peak and zero elsewhere. The time
    stamp of a piece is that of its first sample; a piece may be sent once its last sample is there.
    """
    settings, timing = config.waveforms, config.timing
    n_samples = max(round(settings.chunk_ms / settings.sample_time_ms), 1)
    beat_ms = 60_000.0 / timing.heart_rate_bpm
    piece = 0
    while True:
        at_ms = (piece * n_samples + np.arange(n_samples)) * settings.sample_time_ms
        phase = (at_ms / beat_ms) % 1.0
        signal = np.full(n_samples, float(_BASELINE))
        for center, width, height in _PEAKS:
            away = (phase - center + 0.5) % 1.0 - 0.5
            signal += height * np.exp(-0.5 * (away / width) ** 2)
        peak = phase < settings.sample_time_ms / beat_ms
        header = np.zeros(1, WAVEFORM_HEADER)[0]
        header["version"] = 1
        header["scan_counter"] = piece
        header["time_stamp"] = int((timing.start_s * 1e3 + at_ms[0]) / TICK_MS)
        header["number_of_samples"], header["channels"] = n_samples, 2
        header["sample_time_us"] = settings.sample_time_ms * 1e3
        header["waveform_id"] = ECG_ID
        yield Waveform(header, np.stack([np.rint(signal), peak]).astype(np.uint32))
        piece += 1
