"""Exported graphs in files: written without anything that has to be unpickled, checked before torch opens them.

A ``.pt2`` archive of ``torch.export`` can run code in more than one way when it is loaded: example inputs, legacy
weights, tensor subclasses, custom and opaque objects are unpickled; sizes such as ``8*s12`` are evaluated by SymPy,
which means by Python's ``eval``; guards and node names become source code; operators are looked up by their name
in all of torch, which reaches ``os``; and a node of the graph may be an operator that writes files. So nothing is
taken that is not known: the archive's entries, the fields of the graph, its operators and every string in it stand
in lists here. What passes is written anew in memory, and only that is given to torch, so that nothing
depends on two programs reading one archive alike.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanside.engines.manifest import read_json_object
from scanside.errors import BundleError, MissingExtra, UnsafeArchive

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["CONSTANTS", "GRAPH", "check_archive", "load_graph", "save_graph"]

LARGEST_ARCHIVE = 32 * 2**20
"""In bytes. A graph without weights has some tens of kilobytes."""

GRAPH = "models/model.json"
"""Entry of an archive: operators and their arguments."""
_WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
"""Entry of an archive: the tensors beside it that came with the graph."""
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_FIXED = {
    "archive_format": b"pt2",
    "archive_version": b"0",
    "byteorder": b"little",
    ".data/version": b"6\n",
    _SAMPLE_INPUTS: b"",  # torch wants the entry, and unpickles what is in it
}
_CONSTANT = re.compile(r"data/constants/tensor_\d{1,4}")
_IGNORED = {".data/serialization_id"}

_PICKLED = (
    (re.compile(r"data/(weights|constants)/.*\.pt"), "legacy weights, which are unpickled"),
    (re.compile(r"data/constants/(custom_obj|opaque_obj)_.*"), "an object that is unpickled"),
    (
        re.compile(r"(.*/)?serialized_\w+\.(pt|json)"),
        "the format of torch 2.7 and earlier, which is unpickled",
    ),
    (re.compile(r"(.*/)?(data\.pkl|constants\.pkl)"), "a pickle"),
    (re.compile(r"data/aotinductor/.*"), "compiled code"),
    (re.compile(r"data/weights/weight_\d+"), "weights, which belong in the bundle's weights file"),
)

_OPERATORS = frozenset(
    """
    abs acos add addcdiv addcmul addmm adjoint alias all amax amin any arange argmax argmin asin asinh
    atan atan2 avg_pool2d baddbmm batch_norm bitwise_and bitwise_not bitwise_or bmm broadcast_to cat ceil
    chunk clamp clamp_max clamp_min clone complex concat conj conj_physical constant_pad_nd contiguous
    conv1d conv2d conv3d conv_transpose2d conv_transpose3d convolution copy cos cumsum detach diagonal div
    dot dropout einsum elu eq erf exp expand expand_as expm1 eye feature_dropout fft_fft fft_fft2 fft_fftn
    fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fill flatten flip floor floor_divide fmod full
    full_like gather ge gelu group_norm gt hardsigmoid hardswish hardtanh imag index index_select
    instance_norm is_nonzero isfinite isnan layer_norm le leaky_relu lerp lift lift_fresh lift_fresh_copy
    linalg_inv linalg_norm linalg_solve linalg_vector_norm linear linspace log log1p log2 log_softmax
    logical_and logical_not logical_or logical_xor logsumexp lt masked_fill matmul max max_pool2d maximum
    mean median mH min minimum mish mm moveaxis movedim mT mul multiply mv nan_to_num narrow
    native_batch_norm native_group_norm native_layer_norm ne neg new_full new_ones new_zeros norm ones
    ones_like outer pad permute pixel_shuffle pixel_unshuffle polar pow prelu prod quantile real
    reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder repeat
    replication_pad2d replication_pad3d reshape reshape_as resolve_conj resolve_neg rms_norm roll round
    rsqrt rsub scalar_tensor scaled_dot_product_attention select sgn sigmoid sign silu sin sinc sinh slice
    softmax softplus sort split split_with_sizes sqrt square squeeze stack std std_mean sub subtract sum
    swapaxes sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_storage_offset
    sym_stride t tan tanh tensordot threshold tile to topk transpose tril triu true_divide trunc type_as
    unbind unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d
    upsample_trilinear3d var var_mean vdot view view_as view_as_complex view_as_complex_copy view_as_real
    view_as_real_copy where xlogy zero zeros zeros_like _assert_async _assert_scalar
    _assert_tensor_metadata _conj _conj_physical _fft_c2c _fft_c2r _fft_r2c _log_softmax
    _native_batch_norm_legit _neg_view _reshape_alias _softmax _to_copy _unsafe_view
    """.split()  # noqa: SIM905 — a name per line would hide what is in the list
)
"""Operators of ``torch.ops.aten`` that compute on tensors and touch nothing else; ``from_file``, ``save``,
``set_`` and their like are not among them. An underscore at the end (in place) is left out."""

_TARGET = re.compile(
    r"torch\.ops\.aten\.(?P<aten>_?[a-z][A-Za-z0-9_]*?)_?\.[A-Za-z][A-Za-z0-9_]*"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)"
    r"|math\.(ceil|floor|trunc)"
)

_SYMPY = frozenset(
    """
    Integer Rational Float Symbol Add Mul Pow Max Min Mod Equality Unequality LessThan StrictLessThan GreaterThan
    StrictGreaterThan And Or Not FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv
    PowByNatural IntTrueDiv FloatTrueDiv TruncToInt TruncToFloat RoundToInt ToFloat Identity
    """.split()  # noqa: SIM905 — a name per line would hide what is in the list
)
_LONGEST_EXPRESSION = 4000
_HIGHEST_POWER = 8

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_DOTTED = re.compile(r"[A-Za-z0-9_.]{0,512}")
_PLAIN_TEXT = re.compile(
    r"[A-Za-z0-9_ ,.>-]{0,128}"
)  # 'ortho', 'bchw,hk->bchk': no quotes, no escapes, no paths
_CONSTRAINED = re.compile(r"[A-Za-z0-9_*+/() -]{1,256}")  # '8*s12', looked up and never evaluated
_VERSION = re.compile(r"[A-Za-z0-9_.+<=-]{1,64}")

_REFUSED_FIELDS = {
    "as_graph": "holds a nested graph (a loop, a branch, or an autocast region): write it out, cast explicitly",
    "as_custom_obj": "holds an object of a custom class",
    "as_operator": "holds an operator as a value",
    "custom_obj": "holds an object of a custom class",
    "token": "has side effects",
    "parameter": "holds weights: they must be inputs of the graph",
    "buffer": "holds a buffer: it must be an input of the graph",
    "buffer_mutation": "writes into a buffer",
    "parameter_mutation": "writes into a weight",
    "user_input_mutation": "writes into its input",
    "gradient_to_parameter": "computes gradients",
    "gradient_to_user_input": "computes gradients",
    "loss_output": "computes a loss",
}
_EMPTY_FIELDS = frozenset({"metadata", "guards_code", "custom_obj_values", "treespec_namedtuple_fields"})
"""Fields that hold source code, names of Python objects, or traces of the machine that exported."""


def save_graph(program: ExportedProgram, path: Path) -> None:
    """Write an exported graph so that `load_graph` takes it.

    Left out are the example inputs, which would be pickled and hold all weights that are inputs, the guards, and
    stack traces. Equal graphs give equal files.

    Args:
        program: the graph; all weights are inputs.
        path: the file, replaced if it exists.

    Raises:
        UnsafeArchive: it holds weights, nested graphs, or operators that are not in the list.
    """
    torch = _torch()
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    with zipfile.ZipFile(buffer) as written:
        entries = {name.partition("/")[2]: written.read(name) for name in written.namelist()}
    graph = json.loads(entries[GRAPH])
    graph["guards_code"] = []
    graph["graph_module"]["metadata"] = {}
    for node in graph["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    entries[GRAPH] = json.dumps(graph, separators=(",", ":")).encode()
    entries[_SAMPLE_INPUTS] = b""
    # Graphs are repetitive text: compressed, they take a twentieth of the room.
    data = _pack(_checked_entries(entries, path.name), zipfile.ZIP_DEFLATED)
    path.write_bytes(data)


def load_graph(source: Path | bytes, where: str | None = None) -> ExportedProgram:
    """Read an exported graph, after `check_archive`.

    Args:
        source: the file, or its bytes.
        where: named in errors; by default the file.

    Raises:
        UnsafeArchive: the archive asks for more than reading a graph; torch has not seen it.
        BundleError: torch cannot read the graph.
    """
    where = where or (str(source) if isinstance(source, Path) else "graph")
    entries = check_archive(source, where)
    torch = _torch()
    try:
        with warnings.catch_warnings():
            # Said by torch 2.11 of constants, which it takes from the archive's bytes; no graph writes to them.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            program: ExportedProgram = torch.export.load(io.BytesIO(_pack(entries)))
    except Exception as error:  # torch raises anything from KeyError to RuntimeError here
        made_with = json.loads(entries[GRAPH]).get("torch_version", "unknown")
        raise BundleError(
            f"{where}: torch {torch.__version__} cannot read this graph, which torch {made_with} wrote "
            f"({type(error).__name__}: {str(error)[:200]}): build the bundle again with the torch that runs it"
        ) from error
    return program


def check_archive(source: Path | bytes, where: str | None = None) -> dict[str, bytes]:
    """Refuse an archive that could run code when torch opens it, or that holds more than a graph.

    Needs no torch.

    Args:
        source: the file, or its bytes.
        where: named in errors; by default the file.

    Returns:
        The entries that were checked, by their name inside the archive.

    Raises:
        UnsafeArchive: says which entry or field.
    """
    where = where or (str(source) if isinstance(source, Path) else "graph")
    if isinstance(source, Path):
        if source.stat().st_size > LARGEST_ARCHIVE:
            raise UnsafeArchive(_too_large(where, source.stat().st_size))
        source = source.read_bytes()
    return _checked_entries(_unpack(source, where), where)


def _too_large(where: str, size: int) -> str:
    return f"{where}: {size} bytes are too many for a graph without weights; at most {LARGEST_ARCHIVE} are expected"


def _unpack(data: bytes, where: str) -> dict[str, bytes]:
    """All entries, without the folder that they lie in."""
    if len(data) > LARGEST_ARCHIVE:
        raise UnsafeArchive(_too_large(where, len(data)))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries: dict[str, bytes] = {}
            roots = set()
            for info in archive.infolist():
                root, slash, name = info.filename.partition("/")
                roots.add(root)
                if not slash or not name or name in entries:
                    raise UnsafeArchive(f"{where}: entry '{info.filename}' is out of place or there twice")
                # What an entry says of its size need not be true: never unpack more than is allowed in all.
                room = LARGEST_ARCHIVE - sum(map(len, entries.values()))
                with archive.open(info) as entry:
                    entries[name] = entry.read(room + 1)
                if len(entries[name]) > room:
                    raise UnsafeArchive(
                        f"{where}: unpacked, its entries are larger than the {LARGEST_ARCHIVE} bytes that a graph "
                        "without weights may have"
                    )
            if len(roots) != 1:
                raise UnsafeArchive(f"{where}: expected one folder inside, found {sorted(roots)}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, UnsafeArchive):
            raise
        raise UnsafeArchive(f"{where}: not an archive of torch.export ({error})") from None
    return entries


def _pack(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive, equal for equal entries; torch reads it where entries are stored as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(f"graph/{name}"), entries[name], compression)
    return buffer.getvalue()


def _checked_entries(entries: Mapping[str, bytes], where: str) -> dict[str, bytes]:
    checked = {}
    for name, data in entries.items():
        for pattern, what in _PICKLED:
            if pattern.fullmatch(name):
                raise UnsafeArchive(f"{where}: entry '{name}' is {what}; write the graph with save_graph")
        if name in _FIXED:
            if data != _FIXED[name]:
                what = "example inputs, which are unpickled" if name == _SAMPLE_INPUTS else repr(data[:20])
                raise UnsafeArchive(f"{where}: entry '{name}' holds {what}; write the graph with save_graph")
        elif name in (GRAPH, _WEIGHTS, CONSTANTS):
            # Written anew from what was read, so that torch reads the same.
            fields = _json(data, f"{where}: {name}")
            data = json.dumps(fields, separators=(",", ":")).encode()
        elif name not in _IGNORED and not _CONSTANT.fullmatch(name):
            raise UnsafeArchive(f"{where}: entry '{name[:100]}' does not belong to a graph")
        if name not in _IGNORED:
            checked[name] = data
    if missing := [name for name in (*_FIXED, GRAPH, _WEIGHTS, CONSTANTS) if name not in checked]:
        raise UnsafeArchive(f"{where}: not a graph of torch.export: entry '{missing[0]}' is missing")
    _check_payloads(json.loads(checked[_WEIGHTS]), f"{where}: {_WEIGHTS}", set())
    constants = {name.rpartition("/")[2] for name in checked if _CONSTANT.fullmatch(name)}
    _check_payloads(json.loads(checked[CONSTANTS]), f"{where}: {CONSTANTS}", constants)
    _check_graph(json.loads(checked[GRAPH]), f"{where}: {GRAPH}")
    return checked


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        return read_json_object(data, where)
    except BundleError as error:
        raise UnsafeArchive(str(error)) from None


def _check_payloads(config: dict[str, Any], where: str, files: set[str]) -> None:
    """The list of raw tensors beside a graph: none of them pickled, each in a file that is there."""
    payloads = config.get("config")
    if set(config) != {"config"} or not isinstance(payloads, dict):
        raise UnsafeArchive(f"{where}: expected one field 'config'")
    for name, payload in payloads.items():
        if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
            raise UnsafeArchive(f"{where}: '{name[:100]}' asks for pickle; write the graph with save_graph")
        if payload.get("path_name") not in files:
            raise UnsafeArchive(f"{where}: '{name[:100]}' names a file that does not belong to a graph")
        _walk(payload, f"{where}: {name[:100]}", "")


def _check_graph(graph: dict[str, Any], where: str) -> None:
    known = {
        "graph_module",
        "guards_code",
        "opset_version",
        "range_constraints",
        "schema_version",
        "torch_version",
        "verifiers",
    }
    if unknown := sorted(set(graph) - known):
        raise UnsafeArchive(f"{where}: unknown field '{unknown[0][:100]}'")
    try:
        _walk(graph, where, "")
    except RecursionError:
        raise UnsafeArchive(f"{where}: nested too deeply for a graph") from None


def _walk(value: Any, where: str, field: str) -> None:
    """Check a value and all in it, by the field of the export schema that it stands in."""
    if field in _EMPTY_FIELDS and value:
        raise UnsafeArchive(f"{where}: '{field}' is not empty; write the graph with save_graph")
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in _REFUSED_FIELDS and field not in _TABLES:
                raise UnsafeArchive(f"{where}: the graph {_REFUSED_FIELDS[key]}")
            if not (_CONSTRAINED if field == "range_constraints" else _DOTTED).fullmatch(key):
                raise UnsafeArchive(f"{where}: {key[:100]!r} is no name")
            # Tables have names for keys, which say nothing about what is in them.
            _walk(entry, where, "" if field in _TABLES else key)
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, where, field)
    elif isinstance(value, str):
        _CHECKS.get(field, _check_identifier)(value, f"{where}: {field}")


_TABLES = frozenset(
    {
        "tensor_values",
        "sym_int_values",
        "sym_bool_values",
        "sym_float_values",
        "range_constraints",
        "opset_version",
    }
)


def _check_identifier(text: str, where: str) -> None:
    _match(_IDENTIFIER, text, where)


def _match(pattern: re.Pattern[str], text: str, where: str) -> None:
    if not pattern.fullmatch(text):
        raise UnsafeArchive(f"{where}: {text[:100]!r} is not expected here, and could become code")


def _check_target(target: str, where: str) -> None:
    found = _TARGET.fullmatch(target)
    if found is None or (found["aten"] is not None and found["aten"] not in _OPERATORS):
        raise UnsafeArchive(
            f"{where}: operator '{target[:100]}' is not in the list of operators that only compute "
            "(scanside.engines.archive); write the network with others"
        )


def _check_expression(text: str, where: str) -> None:
    """A size as SymPy prints it: ``Mul(Integer(8), Symbol('s12', positive=True, integer=True))``."""
    if (why := _flaw_of_expression(text)) is not None:
        raise UnsafeArchive(f"{where}: {text[:100]!r} is no plain size ({why}), and would be evaluated")


@lru_cache(4096)  # a graph of thousands of operators has the same few sizes everywhere
def _flaw_of_expression(text: str) -> str | None:
    try:
        if len(text) > _LONGEST_EXPRESSION:
            raise ValueError("too long")
        _check_node(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return str(error) or type(error).__name__
    return None


def _check_node(node: ast.expr) -> None:
    match node:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name in _SYMPY:
            for argument in arguments:
                _check_node(argument)
            for keyword in keywords:
                if keyword.arg is None or not isinstance(keyword.value, ast.Constant | ast.UnaryOp):
                    raise ValueError(f"unexpected settings of {name}")
                _check_node(keyword.value)
            if "Pow" in name and not _is_small_power(arguments):
                raise ValueError("a high power")
        case ast.Constant(value=bool() | None):
            pass
        case ast.Constant(value=int(number)) if abs(number) < 2**63:
            pass
        case ast.Constant(value=float()):
            pass
        case ast.Constant(value=str(name)) if _IDENTIFIER.fullmatch(name) or re.fullmatch(
            r"-?[0-9.]{1,40}", name
        ):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float()) as operand):
            _check_node(operand)
        case _:
            raise ValueError(f"unexpected {type(node).__name__}")


def _is_small_power(arguments: list[ast.expr]) -> bool:
    match arguments:
        case [_, ast.Call(func=ast.Name(id="Integer"), args=[ast.Constant(value=int(power))], keywords=[])]:
            return power <= _HIGHEST_POWER
        case [_, ast.Call(func=ast.Name(id="Integer"), args=[ast.UnaryOp(operand=ast.Constant(value=1))])]:
            return True
    return False


def _check_tree(text: str, where: str) -> None:
    """How inputs are nested: tuples, lists and mappings by name, no classes that would have to be imported."""
    try:
        protocol, tree = json.loads(text)
        if protocol != 1:
            raise ValueError(f"protocol {protocol}")
        _check_branch(tree)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnsafeArchive(f"{where}: inputs are nested in an unexpected way ({error})") from None


def _check_branch(branch: dict[str, Any]) -> None:
    if set(branch) != {"type", "context", "children_spec"}:
        raise ValueError("unknown fields")
    context = None if branch["context"] is None else json.loads(branch["context"])
    if branch["type"] == "builtins.dict":
        if not isinstance(context, list) or not all(
            isinstance(key, str) and _DOTTED.fullmatch(key) for key in context
        ):
            raise ValueError("keys that are no names")
    elif branch["type"] not in (None, "builtins.tuple", "builtins.list") or context is not None:
        raise ValueError(f"type {str(branch['type'])[:100]!r}")
    for child in branch["children_spec"]:
        _check_branch(child)


_CHECKS: dict[str, Callable[[str, str], None]] = {
    "target": _check_target,
    "expr_str": _check_expression,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "as_string": lambda text, where: _match(_PLAIN_TEXT, text, where),
    "as_strings": lambda text, where: _match(_PLAIN_TEXT, text, where),
    "as_float": lambda text, where: _match(re.compile("-?Infinity|NaN"), text, where),
    "torch_version": lambda text, where: _match(_VERSION, text, where),
    "fqn": lambda text, where: _match(_DOTTED, text, where),
    "tensor_constant_name": lambda text, where: _match(_DOTTED, text, where),
}
"""How strings are checked by their field; all others must be identifiers."""


def _torch() -> Any:
    try:
        import torch.export
    except ImportError as error:
        raise MissingExtra("torch", "engines", "exported graphs") from error
    return torch
