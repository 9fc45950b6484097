"""Hostile files: nothing in them is run, whatever they try, and the answer names what they tried.

Payloads are harmless (they touch a file, the sentinel); each test asserts that it was not touched.
"""

from __future__ import annotations

import builtins
import codecs
import collections
import contextlib
import copyreg
import functools
import io
import operator
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganwright.interop import CheckpointImportError, ImportRefusedError, import_checkpoint
from ganwright.interop.admitted import RULES, read_checkpoint_file
from ganwright.interop.opcodes import STEPS
from ganwright.run import Run
from tests.fixtures.nvidia_files import Persistent, content, dump


class Call:
    """Pickled as a call of `function` with `arguments`, and a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "was-run"


@pytest.fixture
def read(tmp_path: Path, sentinel: Path) -> Callable[[bytes], Any]:
    def from_bytes(data: bytes) -> Any:
        path = tmp_path / "hostile.pkl"
        path.write_bytes(data)
        try:
            return read_checkpoint_file(path)
        finally:
            assert not sentinel.exists(), "the file was run"

    return from_bytes


def payloads(sentinel: Path) -> dict[str, tuple[Any, str]]:
    """(object whose pickle runs something, the name that must be in the answer)."""
    place = str(sentinel)
    touch = f"open({place!r}, 'w').close()"
    return {
        "system": (Call(os.system, f"touch {place}"), f"{os.name}.system"),
        "eval": (Call(eval, touch), "builtins.eval"),
        "exec": (Call(exec, touch), "builtins.exec"),
        "open": (Call(open, place, "w"), "io.open"),
        "import": (Call(__import__, "antigravity"), "builtins.__import__"),
        "popen": (Call(subprocess.Popen, ["touch", place]), "subprocess.Popen"),
        "getattr": (Call(getattr, Call(__import__, "os"), "system"), "builtins.getattr"),
        "attrgetter": (Call(operator.attrgetter, "system"), "operator.attrgetter"),
        "methodcaller": (Call(operator.methodcaller, "touch"), "operator.methodcaller"),
        "partial": (Call(functools.partial, os.system, f"touch {place}"), "functools.partial"),
        "reduce": (Call(functools.reduce, operator.add, [1, 2]), "functools.reduce"),
        "map": (Call(map, os.system, [f"touch {place}"]), "builtins.map"),
        "codecs": (Call(codecs.encode, touch, "rot13"), "_codecs.encode"),
        "reconstructor": (Call(copyreg._reconstructor, Run, object, None), "copyreg._reconstructor"),  # type: ignore[attr-defined]
        "torch.load": (Call(torch.load, place), "torch.serialization.load"),
        "hub": (Call(torch.hub.load, "a", "b"), "torch.hub.load"),
        "loads": (Call(pickle.loads, b"x"), "_pickle.loads"),
        "ours": (Call(Run, sentinel), "ganwright.run.Run"),
        "type": (Call(type, "X", (), {}), "builtins.type"),
        "path": (Call(os.path.join, "a", "b"), "posixpath.join"),
        "counter": (Call(collections.Counter, "abc"), "collections.Counter"),
    }


@pytest.mark.parametrize("name", sorted(payloads(Path("x"))))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_calls_are_refused_by_name(name: str, protocol: int, read: Callable[[bytes], Any], sentinel: Path) -> None:
    value, culprit = payloads(sentinel)[name]
    with pytest.raises(ImportRefusedError) as error:
        read(pickle.dumps({"G_ema": [value]}, protocol=protocol))
    said = str(error.value)
    # Protocol 0 names builtins as Python 2 did, and makes objects with copyreg; nested names come first.
    assert culprit in said or (protocol < 3 and "asks for" in said) or name == "getattr"
    assert "Nothing in the file was run" in said and "byte" in said and "hostile.pkl" in said


@pytest.mark.parametrize("name", sorted(payloads(Path("x"))))
def test_calls_inside_networks_are_refused(name: str, read: Callable[[bytes], Any], sentinel: Path) -> None:
    value = content("ada-orig")
    value["G_ema"].state["_modules"]["mapping"].state["_parameters"]["w"] = payloads(sentinel)[name][0]
    with pytest.raises(ImportRefusedError):
        read(dump(value))


@pytest.mark.parametrize("name", sorted(payloads(Path("x"))))
def test_calls_inside_a_nested_storage_are_refused(name: str, read: Callable[[bytes], Any], sentinel: Path) -> None:
    """`_load_from_bytes` is `torch.load` without any restriction in the original."""
    inner = io.BytesIO()
    torch.save(payloads(sentinel)[name][0], inner, _use_new_zipfile_serialization=False)
    with pytest.raises(ImportRefusedError, match="nested storage"):
        read(pickle.dumps(Call(torch.storage._load_from_bytes, inner.getvalue())))


@pytest.mark.parametrize("zipped", [True, False])
def test_calls_in_files_of_torch_are_refused(zipped: bool, read: Callable[[bytes], Any], sentinel: Path) -> None:
    out = io.BytesIO()
    torch.save({"w": payloads(sentinel)["system"][0]}, out, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ImportRefusedError, match=r"\.system"):
        read(out.getvalue())


def test_refused_files_make_no_run(tmp_path: Path, sentinel: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(payloads(sentinel)["system"][0]))
    with pytest.raises(ImportRefusedError):
        import_checkpoint(path, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not sentinel.exists()


def test_old_tensorflow_files_get_advice(read: Callable[[bytes], Any]) -> None:
    with pytest.raises(ImportRefusedError, match="TensorFlow") as error:
        read(b"cdnnlib.tflib.network\nNetwork\n)\x81.")
    assert "legacy.py" in str(error.value)


# Opcodes written by hand. ----------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def named(module: str, name: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(name) + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "path.join"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("collections.OrderedDict", "fromkeys"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch._utils._rebuild_tensor", "v2"),
        ("torch", "os.system"),
        ("numpy", "core.multiarray.scalar"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__self__"),
        ("dnnlib.util", "open_url"),
        ("torch_utils.persistence", "_src_to_module"),
        ("torch_utils.persistence", "import_hook"),
        ("torch.storage", "torch"),
        ("ganwright.interop.restricted", "Machine"),
        ("ganwright.interop.tensors", "Storage"),
        ("", "eval"),
        ("builtins", ""),
        ("builtins\x00", "set"),
        (" builtins", "set"),
    ],
)
def test_crafted_names_are_refused(module: str, name: str, read: Callable[[bytes], Any]) -> None:
    for data in (named(module, name), f"c{module}\n{name}\n".encode()):
        with pytest.raises(CheckpointImportError):
            read(b"\x80\x04" + data + b")R.")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\x82\x01.", "EXT1"),  # the extension registry
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(" + named("collections", "OrderedDict") + b"o.", "OBJ"),
        (named("collections", "OrderedDict") + b")}\x92.", "NEWOBJ_EX"),
        (b"P1\n.", "PERSID"),
        (text("key") + b"Q.", "outside itself"),
        (text("builtins") + b")R.", "calls a str"),
        (named("numpy", "ndarray") + b")R.", "admitted as data only"),
        (named("torch._utils", "_rebuild_tensor") + b")\x81.", "admitted as a function only"),
        (named("torch._utils", "_rebuild_tensor_v2") + b"}R.", "no tuple"),
        (b"]" + text("a") + text("b") + b"s.", "no dict"),
        (text("a") + text("b") + b"a.", "no list"),
        (b"](" + text("a") + text("b") + b"u.", "no dict"),
        (b"}" + b"]" + text("b") + b"s.", "used as a key"),
        (b"}}" + text("x") + text("y") + b"sb.", "attributes to a dictionary"),
        (text("x") + b"}b.", "state to a str"),
        (named("torch.nn.modules.linear", "Linear") + b")\x81" + text("x") + b"b.", "no dictionary of attributes"),
        (named("torch.nn.modules.linear", "Linear") + text("x") + b"\x85R.", "made with arguments"),
        (b"(\x940.", "mark"),
        (b"h\x07.", "damaged"),  # nothing was remembered there
        (b"0.", "damaged"),
        (b".", "damaged"),
        (b"t.", "damaged"),
        (b"N", "damaged|ends before"),
        (b"\xff.", "damaged"),
        (b"", "cannot be read|damaged"),
    ],
)
def test_instructions_that_no_checkpoint_needs(body: bytes, told: str, read: Callable[[bytes], Any]) -> None:
    with pytest.raises(CheckpointImportError, match=told):
        read(b"\x80\x04" + body if body else b"")


def test_setstate_of_our_own_classes_is_out_of_reach(read: Callable[[bytes], Any]) -> None:
    for module, name in (("ganwright.run", "Run"), ("ganwright.interop.restricted", "Inert"), ("torch.nn", "Module")):
        with pytest.raises(ImportRefusedError, match=name):
            read(b"\x80\x04" + named(module, name) + b")\x81}b.")


def test_stand_ins_never_look_at_attribute_names(read: Callable[[bytes], Any]) -> None:
    names = ("__class__", "__dict__", "__reduce__", "__setstate__", "build", "name", "__del__")
    items = b"".join(text(name) + text("x") for name in names)
    value = read(b"\x80\x04" + named("torch.nn.modules.linear", "Linear") + b")\x81}(" + items + b"ub.")
    assert value.name == "torch.nn.modules.linear.Linear" and set(value.state) == set(names)
    assert type(value).__name__ == "Inert" and callable(value.build)


def test_every_rule_is_a_function_of_ours() -> None:
    for name, rule in RULES.items():
        assert rule.call is None or rule.call.__module__.startswith("ganwright.interop."), name
    assert not {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER"} & set(STEPS)


# Numbers that lie. -----------------------------------------------------------------------------------------------


def storage(values: int = 4) -> Any:
    return torch.arange(values, dtype=torch.float32).untyped_storage()


def tensor_call(offset: Any, size: Any, stride: Any, kept: Any = None) -> bytes:
    kept = torch.arange(4, dtype=torch.float32).storage() if kept is None else kept
    return pickle.dumps(Call(torch._utils._rebuild_tensor_v2, kept, offset, size, stride, False, {}))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (3, 1)),
        (0, (1 << 40,), (0,)),  # a stride of 0 would make a small storage huge once it is copied
        (0, (1 << 61, 1 << 61), (0, 0)),
        (4, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
        (0, "2", (1,)),
        ("0", (2,), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (2,), (1 << 62,)),
    ],
)
def test_views_outside_their_storage_are_refused(
    offset: Any, size: Any, stride: Any, read: Callable[[bytes], Any]
) -> None:
    with pytest.raises(ImportRefusedError, match="tensor"):
        read(tensor_call(offset, size, stride))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_honest_views_are_read(read: Callable[[bytes], Any]) -> None:
    assert read(tensor_call(1, (2,), (2,))).tolist() == [1.0, 3.0]
    assert read(tensor_call(0, (2, 2), (1, 2))).tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert read(tensor_call(4, (0,), (1,))).shape == (0,)
    assert read(tensor_call(3, (), ())).item() == 3.0
    with pytest.raises(ImportRefusedError, match="no storage"):
        read(tensor_call(0, (1,), (1,), kept=[1.0]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_storages_that_claim_more_than_the_file_holds(read: Callable[[bytes], Any]) -> None:
    inner = io.BytesIO()
    torch.save(torch.arange(4, dtype=torch.float32).storage(), inner, _use_new_zipfile_serialization=False)
    honest, told, counted = inner.getvalue(), b"K\x04N", struct.pack("<q", 4)
    assert honest.count(told) == 1 and honest.count(counted) == 1
    for data, why in (
        (honest.replace(counted, struct.pack("<q", 1 << 40)), "another size"),
        (honest.replace(told, b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"N"), "larger than the file"),
        (honest[:-3], "another size"),
    ):
        with pytest.raises(ImportRefusedError, match=why):
            read(pickle.dumps(Call(torch.storage._load_from_bytes, data)))


def test_arrays_that_lie_or_hold_objects(read: Callable[[bytes], Any]) -> None:
    assert read(pickle.dumps(np.arange(6.0).reshape(2, 3))).value.tolist() == [[0, 1, 2], [3, 4, 5]]
    core = np.arange(3.0).__reduce__()[0].__module__
    dtype = named("numpy", "dtype") + text("f8") + b"\x89\x88\x87R"
    objects = named("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"
    made = named(core, "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    hostile = {
        "objects": pickle.dumps(np.array([Call(os.system, "true"), {}], dtype=object)),
        "object scalar": b"\x80\x04" + named(core, "scalar") + objects + b"C\x08aaaaaaaa\x86R.",
        "scalar of objects": b"\x80\x04" + named(core, "scalar") + dtype + b"]\x86R.",
        "scalar too short": b"\x80\x04" + named(core, "scalar") + dtype + b"C\x02aa\x86R.",
        "too large": b"\x80\x04" + made + b"(K\x01J\xff\xff\xff\x7f\x85" + dtype + b"\x89C\x08aaaaaaaatb.",
        "list for bytes": b"\x80\x04" + made + b"(K\x01K\x01\x85" + dtype + b"\x89]tb.",
        "fields": pickle.dumps(np.zeros(2, dtype=[("a", "f8"), ("b", "O")])),
        "strings": pickle.dumps(np.array(["a", "b"])),
        "class": b"\x80\x04"
        + named(core, "_reconstruct")
        + named("collections", "OrderedDict")
        + b"K\x00\x85C\x01b\x87R.",
    }
    for name, data in hostile.items():
        with pytest.raises(ImportRefusedError):
            read(data)
            pytest.fail(name)


def test_giant_lengths_allocate_nothing(read: Callable[[bytes], Any]) -> None:
    for data in (
        b"\x80\x04B\xff\xff\xff\x7fabc.",  # BINBYTES of 2 GiB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x8b\xff\xff\xff\x7f.",
    ):
        with pytest.raises(CheckpointImportError):
            read(data)
    assert read(b"\x80\x04Nr\xff\xff\xff\xff.") is None  # a memo of 2^32 entries, in C's unpickler


def test_deep_nesting_neither_crashes_nor_takes_long(read: Callable[[bytes], Any]) -> None:
    read(b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".")  # lists in lists: plain data
    read(b"\x80\x04)" + b"\x85" * 200_000 + b".")
    with pytest.raises(ImportRefusedError, match="as a key"):  # hashing it would exhaust the stack of C
        read(b"\x80\x04})" + b"\x85" * 200_000 + b"Ns.")
    bomb = b"\x80\x04]" + b"\x94h\x00h\x00\x86\x85" * 3 + b"."
    read(bomb)


def test_archives(read: Callable[[bytes], Any]) -> None:
    def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as file:
            for name, data in members.items():
                file.writestr(name, data)
        return out.getvalue()

    good = io.BytesIO()
    torch.save({"w": torch.arange(4.0)}, good)
    assert read(good.getvalue())["w"].tolist() == [0, 1, 2, 3]
    with zipfile.ZipFile(good) as file:
        members = {name: file.read(name) for name in file.namelist()}
    data = next(name for name in members if name.endswith("/data/0"))
    with pytest.raises(ImportRefusedError, match="compressed"):
        read(archive(members, zipfile.ZIP_DEFLATED))
    with pytest.raises(ImportRefusedError, match="another size"):
        read(archive({**members, data: b"abc"}))
    with pytest.raises(CheckpointImportError, match="missing"):
        read(archive({name: value for name, value in members.items() if name != data}))
    with pytest.raises(CheckpointImportError, match=r"one data\.pkl"):
        read(archive({"a.txt": b"x"}))
    with pytest.raises(CheckpointImportError):
        read(good.getvalue()[:-30])


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pkl"):
        with pytest.raises(CheckpointImportError, match="cannot be read"):
            read_checkpoint_file(path)


# Random damage. --------------------------------------------------------------------------------------------------

VALID = dump({"G_ema": Persistent("Generator", {"_parameters": {"w": torch.nn.Parameter(torch.arange(6.0))}, "k": 3})})
FORBIDDEN = ("os", "posix", "subprocess", "builtins", "ganwright.run", "torch.hub", "importlib")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 2), st.binary(min_size=0, max_size=12)), max_size=6
    )
)
def test_random_damage_gives_a_value_or_our_error(
    edits: list[tuple[int, int, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(VALID)
    for place, kind, new in edits:
        place = min(place, len(data))
        if kind == 0:
            data[place : place + len(new)] = new
        elif kind == 1:
            data[place:place] = new
        else:
            del data[place : place + len(new)]
    path = tmp_path / "damaged.pkl"
    path.write_bytes(bytes(data))
    imports: list[str] = []
    real = builtins.__import__
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", lambda name, *a, **k: (imports.append(name), real(name, *a, **k))[1])
        patch.setattr(os, "system", lambda *a: pytest.fail("os.system was called"))
        patch.setattr(pickle, "loads", lambda *a, **k: pytest.fail("pickle.loads was called"))
        patch.setattr(pickle, "load", lambda *a, **k: pytest.fail("pickle.load was called"))
        before = set(sys.modules)
        with contextlib.suppress(CheckpointImportError):
            read_checkpoint_file(path)
        new = {name for name in set(sys.modules) - before if not name.startswith(("encodings", "numpy", "torch"))}
    assert not new and not set(imports) & set(FORBIDDEN)
