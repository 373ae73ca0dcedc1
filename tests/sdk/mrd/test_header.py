"""The scan's XML header, against what ismrmrd reads and for what producers leave out."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path

import h5py
import ismrmrd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import HeaderError
from scanside.mrd.header import Dependency, Limit, MrdHeader, Multiband, Space
from scanside.scan import Scan

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


def limits(counter: str, minimum: object, maximum: object, center: object = None) -> str:
    """A header with limits of one counter; None leaves a value out."""
    values = {"minimum": minimum, "maximum": maximum, "center": center}
    text = "".join(f"<{name}>{value}</{name}>" for name, value in values.items() if value is not None)
    return document(f"<encodingLimits><{counter}>{text}</{counter}></encodingLimits>")


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
    assert header.warnings == ()


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


def test_parallel_imaging() -> None:
    rest = """<trajectory>EPI</trajectory><parallelImaging><accelerationFactor>
      <kspace_encoding_step_1>3</kspace_encoding_step_1></accelerationFactor>
      <calibrationMode>separate</calibrationMode></parallelImaging><echoTrainLength>7</echoTrainLength>"""
    encoding = MrdHeader.parse(document(rest)).encoding(0)
    assert encoding.acceleration == (3, 1)
    assert encoding.calibration_mode == "separate"
    assert encoding.trajectory == "epi"
    assert encoding.echo_train_length == 7


MULTIBAND = (
    "<parallelImaging><multiband>{}<multiband_factor>{}</multiband_factor><calibration>separable2D</calibration>"
    "<calibration_encoding>1</calibration_encoding></multiband></parallelImaging>"
)


def test_multiband() -> None:
    told = "<spacing><dZ>-8</dZ><dZ>12</dZ><dZ>32</dZ></spacing><deltaKz>0.0167</deltaKz>"
    found = MrdHeader.parse(document(MULTIBAND.format(told, 3))).encoding(0).multiband
    assert found == Multiband(3, ((-8.0, 12.0, 32.0),), 0.0167, 1)
    assert found.offsets_mm(0) == found.offsets_mm(7) == (0, 20, 40)
    each = "<spacing><dZ>20</dZ><dZ>20</dZ></spacing><spacing><dZ>21</dZ><dZ>22</dZ></spacing>"
    found = MrdHeader.parse(document(MULTIBAND.format(each, 3))).encoding(0).multiband
    assert found is not None
    assert (found.offsets_mm(0), found.offsets_mm(1), found.delta_kz) == ((0, 20, 40), (0, 21, 43), None)
    assert Multiband(4, ((1.0, 2.0),)).offsets_mm(0) is None
    assert Multiband(4).offsets_mm(0) is None
    for factor in (0, 1):
        assert MrdHeader.parse(document(MULTIBAND.format(told, factor))).encoding(0).multiband is None


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


DESCRIPTION = """
<trajectory>epi</trajectory>
<trajectoryDescription>
  <identifier>ConventionalEPI</identifier>
  <userParameterLong><name>rampUpTime</name><value>120</value></userParameterLong>
  <userParameterLong><name>numSamples</name><value>{samples}</value></userParameterLong>
  <userParameterDouble><name>dwellTime</name><value>2.5</value></userParameterDouble>
  <userParameterString><name>kind</name><value>balanced</value></userParameterString>
  <comment>of a converter</comment>
</trajectoryDescription>"""


def test_description_of_a_trajectory() -> None:
    text = document(after=ENCODING.format(rest=DESCRIPTION.format(samples=192)))
    header = MrdHeader.parse(text)
    description = header.encoding(1).description
    assert description is not None
    assert description.identifier == "ConventionalEPI"
    assert description.parameters == {
        "rampUpTime": 120,
        "numSamples": 192,
        "dwellTime": 2.5,
        "kind": "balanced",
    }
    assert description.number("dwellTime") == 2.5
    assert description.number("kind") is None
    assert description.number("flatTopTime") is None
    assert header.encoding(0).description is None


def test_description_with_a_value_of_another_kind() -> None:
    header = MrdHeader.parse(document(after=ENCODING.format(rest=DESCRIPTION.format(samples="many"))))
    description = header.encoding(1).description
    assert description is not None
    assert "numSamples" not in description.parameters
    assert any("user parameter 'numSamples'" in text for text in header.warnings)


# What cannot be used and is not needed.


def parsed(xml: str | bytes) -> MrdHeader:
    """A header that the smallest one's encoding was read from, whatever else is wrong with it."""
    header = MrdHeader.parse(xml)
    (encoding,) = header.encodings
    assert encoding.encoded == Space((256, 140, 80), (600.0, 328.153, 6.0))
    return header


def parallel(text: str) -> str:
    return document(f"<parallelImaging>{text}</parallelImaging>")


FACTOR = "<accelerationFactor><kspace_encoding_step_1>{}</kspace_encoding_step_1></accelerationFactor>"
MEASUREMENT = "measurementInformation"
LONG = "<userParameterLong><name>n</name><value>{}</value></userParameterLong>"


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        # Text in a number, and a number that is none.
        (document(before=f"<{SYSTEM}><receiverChannels>a lot</receiverChannels></{SYSTEM}>"),
         "<acquisitionSystemInformation/receiverChannels> of the scan's header is 'a lot', expected a finite number"),
        (document(before=f"<{SYSTEM}><receiverChannels>4.5</receiverChannels></{SYSTEM}>"), "is 4.5, expected a wh"),
        (document(before=f"<{SYSTEM}><systemFieldStrength_T>3T</systemFieldStrength_T></{SYSTEM}>"), "is '3T'"),
        (document(after="<sequenceParameters><TR>long</TR></sequenceParameters>"), "/TR> .* is 'long'"),
        (document(after=f"<userParameters>{LONG.format(1.5)}</userParameters>"), "'n' of .* something else, .* int"),
        (document("<echoTrainLength>some</echoTrainLength>"), "<echoTrainLength> .* is 'some'"),
        (parallel(FACTOR.format(10**9)), "is 1000000000, expected no more than the .* lines of the encoded matrix"),
        (parallel(FACTOR.format("two")), "accelerationFactor/kspace_encoding_step_1> .* is 'two'"),
        (parallel(FACTOR.format(0)), "is 0, expected 1 .no acceleration. or more: it counts as absent"),
        (parallel(FACTOR.format(-2)), "is -2, expected 1"),
        (limits("set", 3, 2, 2), "limits of set run from 3 to 2.*they count as absent"),
        (limits("set", 0, "1.5", 0), "limits of set have the maximum '1.5', expected a whole number"),
        (limits("set", 0, "inf", 0), "the maximum 'inf'"),
        (limits("set", 0, 70000, 0), "limits of set run from 0 to 70000: counters of readouts go from 0 to 65535"),
        (limits("set", -3, 3, 0), "limits of set run from -3 to 3: counters"),
        (document("<echoTrainLength>1e12</echoTrainLength>"), "is 1000000000000.0, expected a whole number of at mo"),
        # Empty.
        (document(before=f"<{SYSTEM}><receiverChannels/></{SYSTEM}>"), "receiverChannels> .* is empty"),
        (document(after="<sequenceParameters><TE> </TE></sequenceParameters>"), "/TE> .* is ''"),
        (document("<trajectory/>"), "<trajectory> .* is empty"),
        (limits("slice", None, None, None), "limits of slice have no maximum; they count as absent"),
        (limits("kspace_encoding_step_1", None, None, 12), "kspace_encode_step_1 have no maximum"),
        # A word that the standard does not have.
        (document(before=f"<{MEASUREMENT}><patientPosition>lying</patientPosition></{MEASUREMENT}>"),
         "patientPosition> .* is 'lying', expected one of HFP, HFS"),
        (parallel(FACTOR.format(1) + "<calibrationMode>auto</calibrationMode>"), "is 'auto', expected one of emb"),
        # Dates and times, of which the warning repeats nothing: they may be a person's.
        (document(before="<studyInformation><studyDate>31.12.2020</studyDate></studyInformation>"),
         "^<studyInformation/studyDate> of the scan's header is something else, expected a date, YYYY-MM-DD: it c"),
        (document(before="<subjectInformation><patientBirthdate>1970-13-01</patientBirthdate></subjectInformation>"),
         "^<subjectInformation/patientBirthdate> of the scan's header is something else, expected a date"),
        (document(before=f"<{MEASUREMENT}><seriesTime>noon</seriesTime></{MEASUREMENT}>"), "expected a time, hh:mm"),
        # Repeated.
        (document(before=f"<{SYSTEM}><systemVendor>A</systemVendor><systemVendor>B</systemVendor></{SYSTEM}>"),
         "systemVendor> stands 2 times .*: the first is taken"),
        (without("reconSpace"), "encoding 0 .* has no <reconSpace>: images have the encoded matrix"),
    ],
)  # fmt: skip
def test_what_nothing_needs_is_a_warning_that_names_it(xml: str, said: str) -> None:
    header = parsed(xml)
    (warning,) = header.warnings
    assert re.search(said, warning), warning
    found = {name: getattr(header, name) for name in ("n_coils", "field_strength_t", "patient_position")}
    assert set(found.values()) == {None}
    assert (header.sequence_ms, header.user_parameters) == ({}, {})
    encoding = header.encoding(0)
    assert (encoding.acceleration, encoding.calibration_mode, encoding.echo_train_length) == (
        (1, 1),
        None,
        None,
    )
    assert (encoding.trajectory, encoding.limits) == ("cartesian", {})
    assert encoding.recon in (encoding.encoded, Space((128, 128, 64), (300.0, 300.0, 6.0)))


def test_the_operator_hears_of_it() -> None:
    scan = Scan.from_xml(document(before=f"<{SYSTEM}><receiverChannels>a lot</receiverChannels></{SYSTEM}>"))
    assert scan.warnings == list(scan.header.warnings)
    assert len(scan.warnings) == 1


def test_echo_times_stay_with_their_contrasts() -> None:
    """Without the second, the third would become the second contrast's."""
    times = "<TE>5</TE><TE>?</TE><TE>15</TE>"
    header = parsed(document(after=f"<sequenceParameters>{times}</sequenceParameters>"))
    assert header.sequence_ms == {}
    assert "expected a finite number in each of its 3" in header.warnings[0]


@pytest.mark.parametrize(
    ("counter", "given", "taken", "lacking"),
    [
        ("kspace_encoding_step_1", (None, 109, 54), Limit(0, 109, 54), "minimum"),
        ("kspace_encoding_step_1", (0, 109, None), Limit(0, 109, 55), "center"),
        ("kspace_encoding_step_2", (None, 7, None), Limit(0, 7, 4), "minimum and center"),
        ("slice", (None, 4, None), Limit(0, 4, 2), "minimum"),
        # A centre says nothing where no lines lie.
        ("slice", (0, 4, None), Limit(0, 4, 2), ""),
        ("slice", (0, 4, "?"), Limit(0, 4, 2), ""),
    ],
)
def test_limits_with_gaps(counter: str, given: tuple[object, ...], taken: Limit, lacking: str) -> None:
    header = parsed(limits(counter, *given))
    assert list(header.encoding(0).limits.values()) == [taken]
    assert [f"lack {lacking}:" in text for text in header.warnings] == [True] * bool(lacking)


def test_a_trajectory_that_nobody_knows_is_not_taken_for_cartesian() -> None:
    header = parsed(document("<trajectory>Propeller</trajectory>"))
    assert header.encoding(0).trajectory == "propeller"
    assert "is 'propeller', expected one of cartesian" in header.warnings[0]


def test_sections_inside_themselves() -> None:
    """As old writers of user parameters had it."""
    inner = f"<userParameters>{LONG.format(3)}</userParameters>"
    assert parsed(document(after=f"<userParameters>{inner}</userParameters>")).user_parameters == {"n": 3}
    inner = f"<{SYSTEM}><receiverChannels>4</receiverChannels></{SYSTEM}>"
    header = parsed(document(before=f"<{SYSTEM}><systemVendor>A</systemVendor>{inner}</{SYSTEM}>"))
    assert (header.vendor, header.n_coils) == ("A", 4)
    wrapped = (
        document()
        .replace("<encoding>", "<encoding><encoding>")
        .replace("</encoding>", "</encoding></encoding>")
    )
    assert parsed(wrapped).encodings == parsed(document()).encodings


def test_an_encoding_space_that_cannot_be_used_stops_only_its_readouts() -> None:
    broken = ENCODING.format(rest="").replace("<x>256</x>", "<x>0</x>")
    header = MrdHeader.parse(document(before=broken))
    assert (header.n_encodings, [one.index for one in header.encodings]) == (2, [1])
    assert header.encoding(1).encoded.matrix == (256, 140, 80)
    assert "only readouts that refer to it are lost" in header.warnings[0]
    with pytest.raises(HeaderError, match=r"refers to encoding space 0: .*matrixSize/x> is '0'"):
        header.encoding(0)
    with pytest.raises(HeaderError, match="space 2, but the header has 2"):
        header.encoding(2)


def test_many_faults_are_told_shortly() -> None:
    many = "".join(
        f"<userParameterLong><name>n{i}</name><value>?</value></userParameterLong>" for i in range(99)
    )
    warnings = parsed(document(after=f"<userParameters>{many}</userParameters>")).warnings
    assert len(warnings) == 21
    assert warnings[-1] == "79 more elements of the scan's header are like these"
    long = f"<{SYSTEM}><receiverChannels>{'9' * 5000}x</receiverChannels></{SYSTEM}>"
    assert len(parsed(document(before=long)).warnings[0]) < 300


# XML that a strict parser does not read.

NAMED = document(before=f"<{MEASUREMENT}><protocolName>Schädel</protocolName></{MEASUREMENT}>")
DECLARED = '<?xml version="1.0" encoding="{}"?>\n'


@pytest.mark.parametrize(
    "xml",
    [
        b"\xef\xbb\xbf" + NAMED.encode(),
        b"\xef\xbb\xbf" + (DECLARED.format("utf-8") + NAMED).encode(),
        (DECLARED.format("utf-16") + NAMED).encode("utf-16"),
        NAMED.encode("utf-16") + b"\0",
        b"\xfe\xff" + NAMED.encode("utf-16-be") + b"\0\0",
        (DECLARED.format("iso-8859-1") + NAMED).encode("latin-1"),
        b"\n  " + (DECLARED.format("utf-8") + NAMED).encode() + b"\n\0\0",
    ],
    ids=["BOM", "BOM and declaration", "UTF-16", "UTF-16 and NUL", "big-endian", "Latin-1", "blanks"],
)
def test_encodings_of_the_document(xml: bytes) -> None:
    header = parsed(xml)
    assert header.protocol_name == "Schädel"
    assert header.warnings == ()
    assert MrdHeader.parse(header.xml) == header


@pytest.mark.parametrize(
    ("xml", "name", "said"),
    [
        (NAMED.encode("latin-1"), "Schädel", "not in the encoding that it declares"),
        ((DECLARED.format("utf-8") + NAMED).encode("latin-1"), "Schädel", "not in the encoding that it declares"),
        ((DECLARED.format("utf-16") + NAMED).encode(), "Schädel", "declaration does not fit"),
        ((DECLARED.format("windows") + NAMED).encode(), "Schädel", "declaration does not fit"),
        (NAMED.replace("Schädel", "T1 & T2").encode(), "T1 & T2", "'&' where '&amp;' was meant"),
        (NAMED.replace("Schädel", "T1\x01 &amp; T2").encode(), "T1 & T2", "characters that XML does not have"),
        (NAMED.replace("r>", 'r xsi:schemaLocation="x">', 1).encode(), "Schädel", r"does not declare \(xsi\)"),
        (NAMED.replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:").encode(), "Schädel", r"\(m\)"),
        (NAMED.encode() + b"\0\0rest of a buffer", "Schädel", "goes on after its end"),
    ],
)  # fmt: skip
def test_what_is_mended(xml: bytes, name: str, said: str) -> None:
    header = parsed(xml)
    assert header.protocol_name == name
    assert any(re.search(said, text) for text in header.warnings), header.warnings
    assert all("header is not well-formed XML" in text for text in header.warnings)
    assert MrdHeader.parse(header.xml) == header


# What is refused.


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("", "not well-formed XML .*no element found"),
        (b"\0", "not well-formed XML"),
        ("<ismrmrdHeader>", "not well-formed XML .*begins with b'<ismrmrdHeader>'"),
        (document()[:200], "not well-formed XML"),
        (b"\xff\xfe\x00", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><ismrmrdHeader', "unknown encoding: nonsense"),
        (b'<?xml version="1.0" encoding="utf-32"?><ismrmrdHeader', "multi-byte encodings"),
        ("\ud800", "not well-formed XML"),
        ("<configuration/>", "a <configuration> document, expected <ismrmrdHeader>: is this a configuration"),
        ("<ismrmrdHeader/>", "has no <encoding>"),
        (without("matrixSize"), "<encodedSpace/matrixSize/x> is missing"),
        (without("fieldOfView_mm"), "<encodedSpace/fieldOfView_mm/x> is missing"),
        (without("z"), "<encodedSpace/matrixSize/z> is missing, expected a positive whole number"),
        *(
            (document().replace("<x>256</x>", f"<x>{text}</x>"), f"matrixSize/x> is '{text}', expected a positive w")
            for text in ("many", "0", "-4", "25.6")
        ),
        *(
            (document().replace("<x>600</x>", f"<x>{text}</x>"), f"fieldOfView_mm/x> is '{text}', expected a pos")
            for text in ("inf", "nan", "0", "wide")
        ),
        (
            document().replace("<x>128</x>", "<x>0</x>"),
            "reconSpace/matrixSize/x> is '0', .* or leave <reconSpace> out: images then have the encoded matrix",
        ),
        (limits("kspace_encoding_step_1", -32, 31, 0), "run from -32 to 31: counters of readouts go from 0 to 65535"),
        (limits("kspace_encoding_step_1", 3, 2, 2), "limits of kspace_encode_step_1 run from 3 to 2.*correct"),
        (limits("kspace_encoding_step_2", 0, "1.5", 0), "have the maximum '1.5', expected a whole number"),
        (limits("kspace_encoding_step_1", 0, 7, "middle"), "have the center 'middle', expected a whole number"),
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
