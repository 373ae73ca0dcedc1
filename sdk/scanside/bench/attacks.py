"""What hosts do that mean harm, or whose streams are damaged: each is drawn from a seed and a number."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from scanside.bench.scans import FrameScan
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.messages import Close, ConfigFile, ConfigText, HeaderXml, Message, MessageId, Text
from scanside.mrd.records import SHAPE_FIELDS
from scanside.mrd.writer import encode

__all__ = ["ATTACKS", "FORGED", "Attack", "Due", "Then", "attack"]

Then: TypeAlias = Literal["close", "wait", "drip", "reset"]
"""What the host does when it has sent all: ends writing, waits for an answer, sends a byte now and then, is gone."""

Due: TypeAlias = Literal["error", "word", "end", "nothing"]
"""What the host must get: an error; an error, a warning or images that say so, or the right images; any proper end;
or nothing, as it is gone."""

FORGED = "1999-12-31 23:59:59.000 error [s1] forged"
"""A line of the log that none of Scanside wrote."""

_CLOSE = encode(Close())
_FULL = FrameScan(n_coils=2, n_samples=64, n_lines=32, acceleration=1, noise=False)


@dataclass(frozen=True)
class Attack:
    """What a host does.

    Attributes:
        kind: one of `ATTACKS`.
        stream: what it sends.
        then: what it does afterwards.
        due: what it must get.
    """

    kind: str
    stream: bytes
    then: Then
    due: Due


class _Scan:
    """A scan in pieces, of which attacks put theirs together."""

    def __init__(self, scan: FrameScan, n_frames: int) -> None:
        self.header = scan.header_xml
        frame, self.n_lines = scan.frame()
        frames = []
        for repetition in range(n_frames):
            scan.number(frame, repetition)
            frames.append(frame.tobytes())
        data = b"".join(frames)
        n = len(frames[0]) // self.n_lines
        self.readouts = [data[start : start + n] for start in range(0, len(data), n)]

    @property
    def data(self) -> bytes:
        """All readouts."""
        return b"".join(self.readouts)

    def session(
        self,
        config: Message | None = None,
        header: bytes | None = None,
        between: bytes = b"",
        data: bytes | None = None,
    ) -> bytes:
        """A whole session, with parts of one's own."""
        opening = encode(
            config or ConfigFile("default"), HeaderXml(self.header if header is None else header)
        )
        return opening + between + (self.data if data is None else data) + _CLOSE


_Random: TypeAlias = np.random.Generator
_Made: TypeAlias = "tuple[bytes, Then, Due]"


def attack(kind: str, scan: FrameScan, n_frames: int, seed: int, number: int) -> Attack:
    """An attack of a kind; the same for the same arguments."""
    stream, then, due = ATTACKS[kind](_Scan(scan, n_frames), np.random.default_rng((seed, number)))
    return Attack(kind, stream, then, due)


def _configuration(*properties: tuple[str, str], pipeline: str = "default") -> ConfigText:
    """A configuration as hosts and chains write it; values stand as they are."""
    inner = "".join(
        f'<property name="{name}"><value>{value}</value></property>' for name, value in properties
    )
    text = f"<configuration><pipeline>{pipeline}</pipeline>{inner}</configuration>"
    return ConfigText(text.replace("<pipeline>default</pipeline>", "").encode())


def _entities(root: str) -> bytes:
    """Entities, each of which stands for the one before."""
    chain = "".join(f"<!ENTITY e{i} '&e{i - 1};'>" for i in range(1, 100_000))
    return f"<!DOCTYPE {root} [<!ENTITY e0 'x'>{chain}]><{root}>&e99999;</{root}>".encode()


def _aliases() -> str:
    """Lists of lists of lists: a few hundred bytes that stand for gigabytes."""
    levels = "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return "a: &a [x, x, x]\n" + levels


# Texts


def _half_characters(scan: _Scan, random: _Random) -> _Made:
    half = "\\ud83d"
    texts = (
        f'{{"parameters": {{"{half}": "x"}}}}',
        f'{{"parameters": {{"config": "{half}"}}}}',
        f'{{"parameters": {{"finishScaling": "{half}"}}, "{half}": ["{half}"]}}',
    )
    return scan.session(between=encode(Text(texts[random.integers(len(texts))]))), "close", "word"


def _deep_texts(scan: _Scan, random: _Random) -> _Made:
    n = int(random.integers(1000, 100_000))
    return scan.session(between=encode(Text('{"a": ' * n + "1" + "}" * n))), "close", "error"


def _many_texts(scan: _Scan, random: _Random) -> _Made:
    text = encode(Text("x" * int(random.integers(0, 40)))) * 20_000
    return scan.session(between=text), "close", "error"


def _many_parameters(scan: _Scan, random: _Random) -> _Made:
    parameters = {f"p{i}": "x" * int(random.integers(50)) for i in range(20_000)}
    return scan.session(between=encode(Text(json.dumps({"parameters": parameters})))), "close", "error"


# Configurations and headers


def _yaml_bomb(scan: _Scan, random: _Random) -> _Made:
    setting = ("grappa.kernel_k1", "finish.scaling", "nothing.here")[random.integers(3)]
    value = (_aliases(), "[" * 5000, "9" * 5000, "x" * 1_000_000)[random.integers(4)]
    return scan.session(_configuration((setting, value))), "close", "error"


def _entity_chain(scan: _Scan, random: _Random) -> _Made:
    if random.integers(2):
        return scan.session(ConfigText(_entities("configuration"))), "close", "error"
    return scan.session(header=_entities("ismrmrdHeader")), "close", "error"


def _deep_xml(scan: _Scan, random: _Random) -> _Made:
    n = int(random.integers(1000, 100_000))
    if random.integers(2):
        return scan.session(ConfigText(b"<configuration>" * n + b"</configuration>" * n)), "close", "error"
    return scan.session(header=b"<ismrmrdHeader>" * n + b"</ismrmrdHeader>" * n), "close", "error"


def _crowded_header(scan: _Scan, random: _Random) -> _Made:
    crowd = (b"<studyID/>", b"<!-- x -->", b"<studyDate>1</studyDate>")[random.integers(3)] * 60_000
    header = scan.header.replace(
        b"<experimentalConditions>",
        b"<studyInformation>" + crowd + b"</studyInformation><experimentalConditions>",
        1,
    )
    return scan.session(header=header), "close", "word"


def _folders_as_bundles(scan: _Scan, random: _Random) -> _Made:
    folder = ("/", "/etc", "..", "../../etc", "/" + "x" * 5000)[random.integers(5)]
    return scan.session(_configuration(("engine.bundle", folder), pipeline="student")), "close", "error"


def _evil_names(scan: _Scan, random: _Random) -> _Made:
    names = (f"a\n{FORGED}", "\x1b[2J\x1b[1A", "x" * 1000, "../../../etc/passwd", "\u202e\u2028x")
    return scan.session(ConfigFile(names[random.integers(len(names))])), "close", "error"


def _evil_header(scan: _Scan, random: _Random) -> _Made:
    """Numbers that are none or ask for more than there is, and names that forge."""
    changes = (
        (b"<x>128</x>", b"<x>" + f"\n{FORGED}".encode() + b"</x>"),
        (b"<y>64</y>", b"<y>4294967296</y>"),
        (b"<trajectory>cartesian</trajectory>", b"<trajectory>" + b"x" * 100_000 + b"</trajectory>"),
        (b"<maximum>63</maximum>", b"<maximum>" + b"9" * 5000 + b"</maximum>"),
        (b"<x>64</x><y>64</y>", b"<x>60000</x><y>60000</y>"),
        (b"<x>128</x><y>64</y>", b"<x>128</x><y>100000</y>"),
        (b"<kspace_encoding_step_1>2</", b"<kspace_encoding_step_1>1000000000</"),
        (b"<minimum>0</minimum><maximum>0</maximum>", b"<minimum>0</minimum><maximum>1000000000</maximum>"),
    )
    old, new = changes[random.integers(len(changes))]
    return scan.session(header=scan.header.replace(old, new)), "close", "word"


# Time


def _drops_for_an_opening(scan: _Scan, random: _Random) -> _Made:
    opening = encode(ConfigFile("default"), HeaderXml(scan.header))
    return opening[: int(random.integers(1, len(opening)))], "drip", "error"


def _silence_after_the_header(scan: _Scan, random: _Random) -> _Made:
    opening = encode(ConfigFile("default"), HeaderXml(scan.header))
    return opening + b"".join(scan.readouts[: int(random.integers(3))]), "wait", "error"


def _drops_after_the_header(scan: _Scan, random: _Random) -> _Made:
    opening = encode(ConfigFile("default"), HeaderXml(scan.header))
    return opening + scan.readouts[0][: int(random.integers(1, 900))], "drip", "error"


def _junk_and_silence(scan: _Scan, random: _Random) -> _Made:
    opening = encode(ConfigFile("default"), HeaderXml(scan.header)) if random.integers(2) else b""
    return opening + b"\xff" + random.bytes(int(random.integers(10, 3000))), "wait", "error"


# Damaged data


def _promised_gigabytes(scan: _Scan, random: _Random) -> _Made:
    header = np.zeros(1, ACQUISITION_HEADER)
    shapes = ((65535, 5000, 0), (65535, 4096, 0), (65535, 65535, 65535), (65535, 1, 65535), (65535, 2048, 0))
    for name, value in zip(SHAPE_FIELDS, shapes[random.integers(len(shapes))], strict=True):
        header[name] = value
    promise = struct.pack("<H", MessageId.ACQUISITION) + header.tobytes()
    at = int(random.integers(len(scan.readouts)))
    readouts = [*scan.readouts[:at], promise, *scan.readouts[at:]]
    return scan.session(data=b"".join(readouts)), "close", "error"


def _unknown_message(scan: _Scan, random: _Random) -> _Made:
    at = int(random.integers(len(scan.readouts)))
    wrong = struct.pack("<H", int(random.integers(2000, 65536))) + random.bytes(100)
    return scan.session(data=b"".join([*scan.readouts[:at], wrong, *scan.readouts[at:]])), "close", "error"


def _cut_short(scan: _Scan, random: _Random) -> _Made:
    whole = scan.session()
    return whole[: int(random.integers(2, len(whole) - 3))], "close", "end"


def _client_gone(scan: _Scan, random: _Random) -> _Made:
    whole = scan.session()
    return whole[: int(random.integers(2, len(whole)))], "reset", "nothing"


def _lost_lines(scan: _Scan, random: _Random) -> _Made:
    lost = set(random.choice(len(scan.readouts), int(random.integers(1, 12)), replace=False).tolist())
    kept = [one for i, one in enumerate(scan.readouts) if i not in lost]
    return scan.session(data=b"".join(kept)), "close", "word"


def _lost_lines_of_all(scan: _Scan, random: _Random) -> _Made:  # noqa: ARG001 — it brings its own
    """Nothing is accelerated, so no line may be missing."""
    whole = _Scan(_FULL, 1)
    n = len(whole.readouts)
    first = int(random.integers(n - 1))
    lost = set(
        (
            random.choice(n, int(random.integers(1, n - 2)), replace=False).tolist(),
            range(first, min(n, first + int(random.integers(1, n // 2)))),
            range(1, n - 1),
        )[random.integers(3)]
    )
    kept = [one for i, one in enumerate(whole.readouts) if i not in lost]
    return whole.session(ConfigFile("fft"), data=b"".join(kept)), "close", "word"


def _ends_early(scan: _Scan, random: _Random) -> _Made:
    n = int(random.integers(1, len(scan.readouts)))
    return scan.session(data=b"".join(scan.readouts[:n])), "close", "word"


def _no_number(scan: _Scan, random: _Random) -> _Made:
    at = int(random.integers(len(scan.readouts)))
    readout = bytearray(scan.readouts[at])
    start = 2 + ACQUISITION_HEADER.itemsize + 8 * int(random.integers(16))
    value = (float("nan"), float("inf"), -float("inf"))[random.integers(3)]
    readout[start : start + 4] = struct.pack("<f", value)
    readouts = [*scan.readouts[:at], bytes(readout), *scan.readouts[at + 1 :]]
    return scan.session(data=b"".join(readouts)), "close", "word"


def _wrong_encoding_space(scan: _Scan, random: _Random) -> _Made:
    return _with_field(scan, random, "encoding_space_ref", int(random.integers(1, 65536))), "close", "word"


def _other_shape(scan: _Scan, random: _Random) -> _Made:
    """A readout of another shape among the others, whole as it is."""
    header = np.frombuffer(scan.readouts[0], ACQUISITION_HEADER, 1, offset=2).copy()
    n_samples, n_coils = int(random.integers(1, 300)), int(random.integers(1, 9))
    header["number_of_samples"], header["active_channels"] = n_samples, n_coils
    wrong = scan.readouts[0][:2] + header.tobytes() + bytes(8 * n_samples * n_coils)
    at = int(random.integers(1, len(scan.readouts)))
    return scan.session(data=b"".join([*scan.readouts[:at], wrong, *scan.readouts[at:]])), "close", "end"


def _flipped_bits(scan: _Scan, random: _Random) -> _Made:
    whole = bytearray(scan.session())
    for place in random.integers(len(whole), size=int(random.integers(1, 20))):
        whole[place] ^= 1 << int(random.integers(8))
    return bytes(whole), "close", "end"


def _wrong_order(scan: _Scan, random: _Random) -> _Made:
    parts: list[bytes] = [
        encode(ConfigFile("default")),
        encode(HeaderXml(scan.header)),
        scan.readouts[0],
        encode(HeaderXml(scan.header)),
        encode(ConfigFile("default")),
    ]
    order = random.permutation(len(parts))
    # Configuration, header and readouts in this order are an opening, wherever the others are.
    return (
        b"".join(parts[i] for i in order) + scan.readouts[1] + encode(HeaderXml(b"<a/>")) + _CLOSE,
        "close",
        "error",
    )


def _with_field(scan: _Scan, random: _Random, name: str, value: int) -> bytes:
    at = int(random.integers(len(scan.readouts)))
    header = np.frombuffer(scan.readouts[at], ACQUISITION_HEADER, 1, offset=2).copy()
    header[name] = value
    changed = scan.readouts[at][:2] + header.tobytes() + scan.readouts[at][2 + ACQUISITION_HEADER.itemsize :]
    return scan.session(data=b"".join([*scan.readouts[:at], changed, *scan.readouts[at + 1 :]]))


ATTACKS: dict[str, Callable[[_Scan, _Random], _Made]] = {
    "halves of characters in parameters": _half_characters,
    "parameters nested deeply": _deep_texts,
    "texts without end": _many_texts,
    "parameters without end": _many_parameters,
    "settings that stand for gigabytes": _yaml_bomb,
    "a chain of entities": _entity_chain,
    "XML nested deeply": _deep_xml,
    "a header crowded with names": _crowded_header,
    "any folder as bundle": _folders_as_bundles,
    "names that forge a log": _evil_names,
    "headers with odd values": _evil_header,
    "drops instead of an opening": _drops_for_an_opening,
    "silence after the header": _silence_after_the_header,
    "drops after the header": _drops_after_the_header,
    "junk, then silence": _junk_and_silence,
    "readouts of gigabytes": _promised_gigabytes,
    "unknown messages": _unknown_message,
    "cut anywhere": _cut_short,
    "gone anywhere": _client_gone,
    "lost lines": _lost_lines,
    "lost lines of a full scan": _lost_lines_of_all,
    "an early CLOSE": _ends_early,
    "NaN and infinity": _no_number,
    "encoding spaces that there are not": _wrong_encoding_space,
    "readouts of other shapes": _other_shape,
    "flipped bits": _flipped_bits,
    "messages in disorder": _wrong_order,
}
"""What hosts do, by name."""
