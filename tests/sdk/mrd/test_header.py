"""The scan's XML header, against what ismrmrd reads and for what producers leave out."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import h5py
import ismrmrd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import HeaderError
from scanside.mrd.header import Dependency, Limit, MrdHeader, Space

pytestmark = pytest.mark.torch_free

ENCODING = """
<encoding>
  <encodedSpace>
    <matrixSize><x>256</x><y>140</y><z>80</z></matrixSize>
    <fieldOfView_mm><x>600</x><y>328.153</y><z>6</z></fieldOfView_mm>
  </encodedSpace>
  <reconSpace>
    <matrixSize><x>128</x><y>128</y><z>64</z></matrixSize>
    <fieldOfView_mm><x>300</x><y>300</y><z>6</z></fieldOfView_mm>
  </reconSpace>
  {rest}
</encoding>"""

SYSTEM = "acquisitionSystemInformation"
SLICES = "<encodingLimits><slice><minimum>0</minimum><maximum>4</maximum><center>2</center></slice></encodingLimits>"


def document(rest: str = "", before: str = "", after: str = "", namespace: str = "") -> str:
    encoding = ENCODING.format(rest=rest)
    return f"<ismrmrdHeader{namespace}>{before}{encoding}{after}</ismrmrdHeader>"


def without(element: str) -> str:
    """The smallest header without one of its elements."""
    text = document()
    start, end = text.index(f"<{element}>"), text.index(f"</{element}>") + len(element) + 3
    return text[:start] + text[end:]


# What may be absent.


def test_smallest_header() -> None:
    header = MrdHeader.parse(document())
    (encoding,) = header.encodings
    assert encoding.encoded == Space((256, 140, 80), (600.0, 328.153, 6.0))
    assert encoding.recon.voxel_mm == (300 / 128, 300 / 128, 6 / 64)
    assert encoding.oversampling == 2.0
    assert (encoding.trajectory, encoding.acceleration) == ("cartesian", (1, 1))
    assert (encoding.calibration_mode, encoding.echo_train_length) == (None, None)
    # Without limits: what a full acquisition would have.
    assert encoding.limit("kspace_encode_step_1") == Limit(0, 139, 70)
    assert encoding.limit("kspace_encode_step_2") == Limit(0, 79, 40)
    assert encoding.limit("slice") == Limit(0, 0, 0)
    assert encoding.limit("slice").n == 1
    assert header.xml == document().encode()
    for name in ("measurement_id", "protocol_name", "patient_position", "n_coils", "vendor"):
        assert getattr(header, name) is None, name
    assert header.receiver_noise_bandwidth is None
    assert header.field_strength_t is None
    assert (header.dependencies, header.coil_names) == ((), ())
    assert (header.sequence_ms, header.user_parameters, header.waveform_names) == ({}, {}, {})
    assert header.depends_on("noise") == ()


@pytest.mark.parametrize(
    "namespace",
    ["", ' xmlns="http://www.ismrm.org/ISMRMRD"', ' xmlns="http://www.ismrm.org/ISMRMRD/2"'],
    ids=["none", "usual", "other"],
)
def test_any_namespace(namespace: str) -> None:
    header = MrdHeader.parse(document(SLICES, namespace=namespace))
    assert header.encoding(0).limits == {"slice": Limit(0, 4, 2)}


def test_a_prefix_is_a_namespace_too() -> None:
    text = document(namespace=' xmlns:m="http://www.ismrm.org/ISMRMRD"')
    text = text.replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:")
    assert MrdHeader.parse(text).encodings == MrdHeader.parse(document()).encodings


@pytest.mark.parametrize(
    "xml", [document(), document().encode(), document().encode() + b"\0", document().encode() + b"\0" * 9]
)
def test_text_bytes_and_trailing_nul(xml: str | bytes) -> None:
    header = MrdHeader.parse(xml)
    assert header.xml == document().encode()
    assert MrdHeader.parse(header.xml) == header


def test_limits() -> None:
    limits = """<encodingLimits>
      <kspace_encoding_step_0><minimum>0</minimum><maximum>255</maximum><center>128</center></kspace_encoding_step_0>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>109</maximum><center>54</center></kspace_encoding_step_1>
      <kspace_encoding_step_2><minimum>3</minimum><maximum>10</maximum></kspace_encoding_step_2>
      <average/>
      <repetition><minimum>0</minimum></repetition>
      <phase><minimum>2</minimum><maximum>2</maximum></phase>
      <something_new><minimum>0</minimum><maximum>9</maximum></something_new>
    </encodingLimits>"""
    encoding = MrdHeader.parse(document(limits)).encoding(0)
    assert encoding.limits == {
        "kspace_encode_step_0": Limit(0, 255, 128),
        "kspace_encode_step_1": Limit(0, 109, 54),
        # Without a centre, the middle as in a matrix of that size: index N // 2.
        "kspace_encode_step_2": Limit(3, 10, 7),
        "phase": Limit(2, 2, 2),
    }
    assert encoding.limit("kspace_encode_step_1").n == 110
    assert encoding.limit("average") == Limit(0, 0, 0)


@pytest.mark.parametrize("value", [0, -2])
@pytest.mark.parametrize("axis", [1, 2])
def test_acceleration_below_one_is_an_error(axis: int, value: int) -> None:
    name = f"kspace_encoding_step_{axis}"
    factor = f"<accelerationFactor><{name}>{value}</{name}></accelerationFactor>"
    with pytest.raises(HeaderError, match=rf"accelerationFactor/{name}> is {value}, expected 1 .* or more"):
        MrdHeader.parse(document(f"<parallelImaging>{factor}</parallelImaging>"))


def test_parallel_imaging() -> None:
    rest = """<trajectory>EPI</trajectory><parallelImaging><accelerationFactor>
      <kspace_encoding_step_1>3</kspace_encoding_step_1></accelerationFactor>
      <calibrationMode>separate</calibrationMode></parallelImaging><echoTrainLength>7</echoTrainLength>"""
    encoding = MrdHeader.parse(document(rest)).encoding(0)
    assert encoding.acceleration == (3, 1)
    assert encoding.calibration_mode == "separate"
    assert encoding.trajectory == "epi"
    assert encoding.echo_train_length == 7


def test_dependencies() -> None:
    before = """<measurementInformation><measurementID>45_2</measurementID>
      <measurementDependency><dependencyType>SenMap</dependencyType><measurementID>45_0</measurementID></measurementDependency>
      <measurementDependency><dependencyType>Noise</dependencyType><measurementID>45_1</measurementID></measurementDependency>
      <measurementDependency><dependencyType>noise</dependencyType><measurementID>45_3</measurementID></measurementDependency>
    </measurementInformation>"""
    header = MrdHeader.parse(document(before=before))
    assert header.measurement_id == "45_2"
    assert header.dependencies[0] == Dependency("SenMap", "45_0")
    assert header.depends_on("Noise") == ("45_1", "45_3")


def test_user_parameters() -> None:
    after = """<userParameters>
      <userParameterLong><name>EncodingLimits.center</name><value> -3 </value></userParameterLong>
      <userParameterDouble><name>MaxGradient</name><value>2.5e-3</value></userParameterDouble>
      <userParameterString><name>Protocol</name><value>ü &amp; ö</value></userParameterString>
      <userParameterString><name>Empty</name><value/></userParameterString>
      <userParameterLong><value>4</value></userParameterLong>
      <userParameterBase64><name>Blob</name><value>AAAA</value></userParameterBase64>
    </userParameters>"""
    parameters = MrdHeader.parse(document(after=after)).user_parameters
    assert parameters == {
        "EncodingLimits.center": -3,
        "MaxGradient": 2.5e-3,
        "Protocol": "ü & ö",
        "Empty": "",
    }
    assert isinstance(parameters["EncodingLimits.center"], int)


def test_waveforms() -> None:
    kinds = ("ecg", "pulse", "respiratory", "trigger", "gradientwaveform", "other")
    after = "".join(
        f"<waveformInformation><waveformName>{kind}-name</waveformName><waveformType>{kind}</waveformType></waveformInformation>"
        for kind in kinds
    )
    names = MrdHeader.parse(document(after=after)).waveform_names
    assert names == {i: f"{kind}-name" for i, kind in enumerate(kinds[:-1])}


def test_several_encodings() -> None:
    text = document(after=ENCODING.format(rest="<trajectory>radial</trajectory>"))
    header = MrdHeader.parse(text)
    assert [encoding.index for encoding in header.encodings] == [0, 1]
    assert header.encoding(1).trajectory == "radial"
    for index in (2, -1):
        with pytest.raises(HeaderError, match=f"refers to encoding space {index}, but the header has 2"):
            header.encoding(index)


# What is refused.


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("", "not well-formed XML .*no element found"),
        (b"\0", "not well-formed XML"),
        ("<ismrmrdHeader>", "not well-formed XML .*begins with b'<ismrmrdHeader>'"),
        (document()[:200], "not well-formed XML"),
        (b"\xff\xfe\x00", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><ismrmrdHeader/>', "unknown encoding: nonsense"),
        (b'<?xml version="1.0" encoding="utf-32"?><ismrmrdHeader/>', "multi-byte encodings"),
        ("\ud800", "not well-formed XML"),
        ("<configuration/>", "a <configuration> document, expected <ismrmrdHeader>: is this a configuration"),
        ("<ismrmrdHeader/>", "has no <encoding>"),
        (without("reconSpace"), "encoding 0 .*: <reconSpace/matrixSize/x> is missing"),
        (without("matrixSize"), "<encodedSpace/matrixSize/x> is missing"),
        (without("fieldOfView_mm"), "<encodedSpace/fieldOfView_mm/x> is missing"),
        (without("z"), "<encodedSpace/matrixSize/z> is missing, expected a positive whole number"),
        (document().replace("<x>256</x>", "<x>many</x>"), "matrixSize/x> .* is 'many', expected a finite number"),
        (document().replace("<x>256</x>", "<x>0</x>"), "matrixSize/x> is 0.0, expected a positive whole number"),
        (document().replace("<x>256</x>", "<x>-4</x>"), "matrixSize/x> is -4.0, expected a positive"),
        (document().replace("<x>256</x>", "<x>25.6</x>"), "matrixSize/x> is 25.6, expected a positive whole number"),
        (document().replace("<x>600</x>", "<x>inf</x>"), "fieldOfView_mm/x> .* is 'inf', expected a finite"),
        (document().replace("<x>600</x>", "<x>nan</x>"), "fieldOfView_mm/x> .* is 'nan', expected a finite"),
        (document().replace("<x>600</x>", "<x>0</x>"), "fieldOfView_mm/x> is 0.0, expected a positive number"),
        (
            document("<encodingLimits><set><minimum>3</minimum><maximum>2</maximum></set></encodingLimits>"),
            "encoding limits of set .* run from 3 to 2",
        ),
        (
            document("<encodingLimits><set><minimum>0</minimum><maximum>1.5</maximum></set></encodingLimits>"),
            "<maximum> .* is 1.5, expected a whole number",
        ),
        (
            document("<encodingLimits><set><minimum>0</minimum><maximum>inf</maximum></set></encodingLimits>"),
            "<maximum> .* is 'inf', expected a finite number",
        ),
        (
            document(before=f"<{SYSTEM}><receiverChannels>a lot</receiverChannels></{SYSTEM}>"),
            "<acquisitionSystemInformation/receiverChannels> .* is 'a lot'",
        ),
        (
            document(after="<sequenceParameters><TR>long</TR></sequenceParameters>"),
            "<TR> .* is 'long', expected a finite number",
        ),
        (
            document(after="<userParameters><userParameterLong><name>n</name><value>1.5</value></userParameterLong></userParameters>"),
            "user parameter 'n' .* is '1.5', expected int",
        ),
    ],
)  # fmt: skip
def test_unusable_headers(xml: str | bytes, said: str) -> None:
    with pytest.raises(HeaderError, match=said):
        MrdHeader.parse(xml)


def test_entities_do_not_explode() -> None:
    """A kilobyte must not become gigabytes."""
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 11))
    xml = f'<!DOCTYPE x [<!ENTITY e0 "{"x" * 50}">{levels}]><ismrmrdHeader>&e10;</ismrmrdHeader>'
    with pytest.raises(HeaderError, match="not well-formed"):
        MrdHeader.parse(xml)


@given(st.data())
def test_damaged_headers_are_read_or_refused(data: st.DataObject) -> None:
    """Whatever happened to the bytes on their way: a header or a HeaderError, nothing else."""
    raw = bytearray(document("<trajectory>epi</trajectory>").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw) - 1))
        raw[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with suppress(HeaderError):
        MrdHeader.parse(bytes(raw))


# Against ismrmrd.


def assert_as_ismrmrd(raw: bytes) -> MrdHeader:
    """All that we read is what ismrmrd's schema binding reads."""
    ours, theirs = MrdHeader.parse(raw), ismrmrd.xsd.CreateFromDocument(raw)
    assert len(ours.encodings) == len(theirs.encoding)
    for mine, other in zip(ours.encodings, theirs.encoding, strict=True):
        for name, space in (("encodedSpace", mine.encoded), ("reconSpace", mine.recon)):
            wanted = getattr(other, name)
            matrix, fov = wanted.matrixSize, wanted.fieldOfView_mm
            assert space == Space((matrix.x, matrix.y, matrix.z), (fov.x, fov.y, fov.z))
        names = {"kspace_encode_step_0": "kspace_encoding_step_0"} | {
            f"kspace_encode_step_{i}": f"kspace_encoding_step_{i}" for i in (1, 2)
        }
        others = ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
        for counter, element in (names | {name: name for name in others}).items():
            limit = getattr(other.encodingLimits, element)
            mine_limit = mine.limits.get(counter)
            assert (mine_limit is None) == (limit is None), counter
            if limit is not None:
                assert mine_limit == Limit(limit.minimum, limit.maximum, limit.center)
        assert mine.trajectory == other.trajectory.value.lower()
        if other.parallelImaging is not None:
            factor = other.parallelImaging.accelerationFactor
            assert mine.acceleration == (factor.kspace_encoding_step_1, factor.kspace_encoding_step_2)
            mode = other.parallelImaging.calibrationMode
            assert mine.calibration_mode == (None if mode is None else mode.value)
        assert mine.echo_train_length == other.echoTrainLength
    system, measurement = theirs.acquisitionSystemInformation, theirs.measurementInformation
    if system is not None:
        assert ours.n_coils == system.receiverChannels
        assert ours.receiver_noise_bandwidth == system.relativeReceiverNoiseBandwidth
        assert ours.field_strength_t == system.systemFieldStrength_T
        assert ours.vendor == system.systemVendor
        assert ours.coil_names == tuple(label.coilName for label in system.coilLabel)
    if measurement is not None:
        assert ours.measurement_id == measurement.measurementID
        assert ours.protocol_name == measurement.protocolName
        assert ours.patient_position == measurement.patientPosition.value
        assert ours.dependencies == tuple(
            Dependency(one.dependencyType, one.measurementID) for one in measurement.measurementDependency
        )
    if theirs.sequenceParameters is not None:
        for name in ("TR", "TE", "TI", "flipAngle_deg", "echo_spacing"):
            assert ours.sequence_ms.get(name, ()) == tuple(getattr(theirs.sequenceParameters, name)), name
    if theirs.userParameters is not None:
        user = theirs.userParameters
        pairs = [*user.userParameterLong, *user.userParameterDouble, *user.userParameterString]
        assert ours.user_parameters == {one.name: one.value for one in pairs}
    return ours


def stored_header(path: Path) -> bytes:
    with h5py.File(path) as file:
        raw: bytes = file["dataset/xml"][0]
    return raw


@pytest.mark.parametrize("name", ["skyra_grappa_r3", "phantom_array16"])
def test_scanner_headers(shared_data: Path, name: str) -> None:
    header = assert_as_ismrmrd(stored_header(shared_data / "scanner-ismrmrd" / f"{name}.h5"))
    assert header.n_coils
    assert header.encodings[0].limits


def test_skyra_header_is_what_the_scan_is(shared_data: Path) -> None:
    header = MrdHeader.parse(stored_header(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.h5"))
    encoding = header.encoding(0)
    assert header.n_coils == len(header.coil_names) == 14
    assert header.receiver_noise_bandwidth == 0.793
    assert encoding.acceleration == (3, 1)
    assert encoding.oversampling == 2.0
    assert encoding.limit("kspace_encode_step_1").center == 54


def test_header_of_the_ismrmrd_tools(ismrmrd_generate: str, tmp_path: Path) -> None:
    command = [ismrmrd_generate, "-m", "32", "-c", "2", "-o", str(tmp_path / "out.h5")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    header = assert_as_ismrmrd(stored_header(tmp_path / "out.h5"))
    assert header.encoding(0).encoded.matrix[:2] == (64, 32)


def test_header_that_ismrmrd_wrote() -> None:
    """Round trip through the schema binding, which writes a namespace prefix."""
    before = """<measurementInformation><measurementID>1</measurementID><patientPosition>HFP</patientPosition>
      <protocolName>T2 &lt;fast&gt;</protocolName></measurementInformation>
      <acquisitionSystemInformation><systemVendor>V</systemVendor><receiverChannels>3</receiverChannels>
      <coilLabel><coilNumber>0</coilNumber><coilName>A</coilName></coilLabel></acquisitionSystemInformation>
      <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>"""
    rest = f"{SLICES}<trajectory>spiral</trajectory>"
    after = "<sequenceParameters><TR>2000</TR><TE>8.5</TE><TE>17</TE></sequenceParameters>"
    text = document(rest, before, after, namespace=' xmlns="http://www.ismrm.org/ISMRMRD"')
    written = ismrmrd.xsd.ToXML(ismrmrd.xsd.CreateFromDocument(text))
    header = assert_as_ismrmrd(written.encode())
    assert header.protocol_name == "T2 <fast>"
    assert header.sequence_ms == {"TR": (2000.0,), "TE": (8.5, 17.0)}
    assert (header.n_coils, header.coil_names, header.patient_position) == (3, ("A",), "HFP")
