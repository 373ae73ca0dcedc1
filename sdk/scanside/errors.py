"""Every error that Scanside raises on purpose.

::

    ScansideError
    ├── ConfigError (ValueError)          a configuration that cannot work
    │   ├── PipelineError                 stages that do not fit, an unknown stage or pipeline, bad YAML
    │   └── StageConfigError              a stage's own settings
    ├── FormatError (ValueError)          bytes or files that are not what they should be
    │   ├── MessageError                  a message on the wire: unknown id, impossible length
    │   ├── HeaderError                   the scan's XML header
    │   └── FileFormatError               not ISMRMRD HDF5, not an ISMRMRD stream, missing tables
    ├── StreamError                       how a stream ended when it should not have
    │   ├── EndOfStream (EOFError)        the peer closed properly, nothing more will come
    │   ├── IncompleteRead (EOFError)     the stream stopped in the middle of a message
    │   ├── PeerGone (ConnectionError)    the connection broke without a close
    │   │   └── PeerSilent (TimeoutError) nothing came, or nothing was taken, for longer than allowed
    │   └── PeerReported (RuntimeError)   the peer told of an error; its text is the message
    ├── ScanError                         a scan's data cannot be reconstructed as asked
    │   ├── CounterError (IndexError)     an encoding counter outside what the header announces
    │   ├── ShapeError (ValueError)       readouts or items whose shape does not fit
    │   ├── CalibrationError (ValueError) missing or insufficient ACS or noise data
    │   ├── NonFiniteError (ArithmeticError)  NaN or infinity in samples or in a result
    │   └── IncompleteScan (EOFError)     the scan ended before its data were complete
    ├── EngineError (RuntimeError)        an engine that cannot be built, loaded or run here
    │   ├── BundleError (ValueError)      a bundle's files or manifest are not what they should be
    │   │   ├── UnsafeArchive             a graph's archive could run code when opened, or holds more than a graph
    │   │   └── SignatureError            not signed, signed by an unknown key, or wrongly signed
    │   ├── BundleNotFound (LookupError)  no bundle of that name
    │   ├── EngineNotBuilt (LookupError)  nobody has built it on this machine yet; says how
    │   ├── BackendUnavailable            this machine lacks what a backend needs
    │   ├── CacheUnusable                 the folder of this machine's engines cannot be written or trusted
    │   ├── EnginePostponed               not built or judged, for a reason that passes: it is tried again
    │   └── EngineRejected                it was built, but did not pass acceptance; carries the report
    ├── StageError (RuntimeError)         a stage raised; says which, at which readouts, and carries the cause
    ├── RunError (RuntimeError)           work on many files that cannot go on: no worker starts, the disk is full
    └── MissingExtra (ImportError)        an optional package is not installed; says what to install

The text of an error says what was found, where, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "BackendUnavailable",
    "BundleError",
    "BundleNotFound",
    "CacheUnusable",
    "CalibrationError",
    "ConfigError",
    "CounterError",
    "EndOfStream",
    "EngineError",
    "EngineNotBuilt",
    "EnginePostponed",
    "EngineRejected",
    "FileFormatError",
    "FormatError",
    "HeaderError",
    "IncompleteRead",
    "IncompleteScan",
    "MessageError",
    "MissingExtra",
    "NonFiniteError",
    "PeerGone",
    "PeerReported",
    "PeerSilent",
    "PipelineError",
    "RunError",
    "ScanError",
    "ScansideError",
    "ShapeError",
    "SignatureError",
    "StageConfigError",
    "StageError",
    "StreamError",
    "UnsafeArchive",
]


class ScansideError(Exception):
    """The root of every error that Scanside raises on purpose."""


class ConfigError(ScansideError, ValueError):
    """A configuration that cannot work."""


class PipelineError(ConfigError):
    """A pipeline that cannot be loaded: unknown names, bad YAML, stages that do not fit."""


class StageConfigError(ConfigError):
    """A stage's settings are wrong."""


class FormatError(ScansideError, ValueError):
    """Bytes or a file that are not what they should be."""


class MessageError(FormatError):
    """A message on the wire that cannot be read: unknown id or impossible length."""


class HeaderError(FormatError):
    """The scan's XML header is malformed or lacks what a reconstruction needs."""


class FileFormatError(FormatError):
    """Not an ISMRMRD HDF5 file or stream, or one that lacks its tables."""


class StreamError(ScansideError):
    """How a stream ended when it should not have."""


class EndOfStream(StreamError, EOFError):
    """The peer closed properly: nothing more will come."""


class IncompleteRead(StreamError, EOFError):
    """The stream stopped in the middle of a message."""


class PeerGone(StreamError, ConnectionError):
    """The connection broke without a proper close."""


class PeerSilent(PeerGone, TimeoutError):
    """Nothing came from the peer, or it took nothing, for longer than allowed."""


class PeerReported(StreamError, RuntimeError):
    """The peer told of an error, as ERROR or as text; its text is this error's message."""


class ScanError(ScansideError):
    """The data of a scan cannot be reconstructed as asked."""


class CounterError(ScanError, IndexError):
    """An encoding counter lies outside what the header announces."""


class ShapeError(ScanError, ValueError):
    """Readouts or items have a shape that does not fit."""


class CalibrationError(ScanError, ValueError):
    """Calibration data (ACS lines, noise readouts) are missing or not enough."""


class NonFiniteError(ScanError, ArithmeticError):
    """Samples or a result hold NaN or infinity."""


class IncompleteScan(ScanError, EOFError):
    """The scan ended before its data were complete."""


class EngineError(ScansideError, RuntimeError):
    """An engine cannot be built, loaded or run on this machine."""


class BundleError(EngineError, ValueError):
    """A bundle's files or its manifest are not what they should be."""


class UnsafeArchive(BundleError):
    """A graph's archive could run code when it is opened, or holds more than a graph; torch did not see it."""


class SignatureError(BundleError):
    """A bundle is not signed where it has to be, is signed by an unknown key, or wrongly signed."""


class BundleNotFound(EngineError, LookupError):
    """There is no bundle of that name."""


class EngineNotBuilt(EngineError, LookupError):
    """An engine that nobody has built on this machine yet, where there is no time to build it; says how."""


class BackendUnavailable(EngineError):
    """This machine lacks what an engine's backend needs; says what."""


class CacheUnusable(EngineError):
    """The folder of this machine's engines cannot be written, or others can write to it."""


class EnginePostponed(EngineError):
    """An engine could not be built or judged for a reason that passes: it is tried again the next time."""


class EngineRejected(EngineError):
    """An engine did not pass acceptance, so that none was kept.

    Args:
        message: which engine, and the checks that failed.
        report: everything that was measured.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class StageError(ScansideError, RuntimeError):
    """A stage raised: which one, at which readouts, and why.

    Args:
        stage: name of the stage in its pipeline.
        cause: what it raised.
        scan_counter: counter of the last readout of the block at which it happened, where there was one.
    """

    def __init__(self, stage: str, cause: BaseException, scan_counter: int | None = None) -> None:
        where = "" if scan_counter is None else f", in the block that ends with scan counter {scan_counter}"
        what = str(cause) or "no message"
        # Our own errors already say what to do; of any other the reader needs to know the type.
        kind = "" if isinstance(cause, ScansideError) else f"{type(cause).__name__}: "
        super().__init__(f"stage '{stage}'{where}: {kind}{what}")
        self.stage = stage
        self.cause = cause
        self.scan_counter = scan_counter


class RunError(ScansideError, RuntimeError):
    """Work on many files that cannot go on, whichever file comes next: no worker starts, the disk is full."""


class MissingExtra(ScansideError, ImportError):
    """An optional package is not installed.

    Args:
        package: what could not be imported.
        extra: the extra of ``scanside`` that brings it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: "
            f"pip install 'scanside[{extra}]'"
        )
        self.package = package
        self.extra = extra
