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
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganwright.data.spec import DataKind, DataSpec
from ganwright.interop import CheckpointImportError, ImportRefusedError, import_checkpoint
from ganwright.interop.admitted import RULES, read_checkpoint_file
from ganwright.interop.importing import Foreign, _recipe
from ganwright.interop.opcodes import STEPS
from ganwright.interop.r3gan import r3gan_from_state
from ganwright.interop.sr_checkpoints import plain_state, sr_from_state
from ganwright.networks.rrdb import RRDBNet
from ganwright.networks.stylegan3 import Generator
from ganwright.recipes.stylegan3_settings import generator_plan
from ganwright.run import Run
from ganwright.training.settings import resolve
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


# Files that take time or memory. ---------------------------------------------------------------------------------

LARGE = b"}(" + b"".join(text(f"k{i}") + b"N" for i in range(20_000)) + b"u"
"""A dictionary of 20,000 items."""


def used_often(part: bytes, name: bytes, times: int = 100_000) -> bytes:
    """A list of calls of `name` with the same argument."""
    return b"\x80\x04" + part + b"\x85\x940" + name + b"\x940(" + b"h\x01h\x00R" * times + b"l."


def nested_storage(values: int, junk: bytes = b"") -> bytes:
    out = io.BytesIO()
    torch.save(torch.zeros(values).untyped_storage(), out, _use_new_zipfile_serialization=False)
    first = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return first[:2] + junk + first[2:] + out.getvalue()[len(first) :]


def tree_of_tuples(depth: int) -> bytes:
    """2^depth leaves in a few bytes."""
    return b"K\x01" + b"2\x86" * depth


def binary(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8b" + struct.pack("<i", len(data)) + data


FLOODS = {
    "arguments": b"\x80\x04("
    + text("f8")
    + b"N" * 20_000
    + b"t\x940"
    + named("numpy", "dtype")
    + b"\x940("
    + b"h\x01h\x00R" * 100_000
    + b"l.",
    "sets": used_often(b"](" + b"K\x01" * 20_000 + b"e", named("builtins", "set")),
    "storages": used_often(binary(nested_storage(1000)), named("torch.storage", "_load_from_bytes"), 1000),
    "arrays": used_often(b"", b"", 0)[:2]
    + b"("
    + binary(bytes(8000))
    + named("numpy", "dtype")
    + text("f8")
    + b"\x89\x88\x87RM\xe8\x03\x85"
    + text("C")
    + b"t\x940"
    + named("numpy.core.numeric", "_frombuffer")
    + b"\x940("
    + b"h\x01h\x00R" * 1000
    + b"l.",
    "instructions": b"\x80\x04" + b"N0" * 600_000 + b"N.",
    "nested instructions": b"\x80\x04("
    + b"".join(
        named("torch.storage", "_load_from_bytes") + binary(nested_storage(1, b"N0" * 60_000)) + b"\x85R"
        for _ in range(9)
    )
    + b"l.",
    "tuples as keys": b"\x80\x04}K\x01K\x02\x86Ns.",  # a file can choose as many of one hash as it likes
    "integers of one hash": b"\x80\x04}" + integer((1 << 61) - 1 << 70) + b"Ns.",
    "memo of one hash": b"\x80\x04Np%d\n." % ((1 << 61) - 1 << 70),
    "two states": b"\x80\x04" + named("torch.nn.modules.linear", "Linear") + b")\x81" + LARGE + b"\x94bh\x00b.",
    "list of storages": b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    + b"\x80\x02}.\x80\x02]"
    + tree_of_tuples(60)
    + b"a.",
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_are_refused_soon(name: str, read: Callable[[bytes], Any]) -> None:
    told = (
        "over and over|more instructions|used as a key|numbers what it remembers|two states|list of storages is wrong"
    )
    with pytest.raises(CheckpointImportError, match=told):
        read(FLOODS[name])


def test_what_floods_are_made_of_is_read(read: Callable[[bytes], Any]) -> None:
    once = used_often(binary(nested_storage(3)), named("torch.storage", "_load_from_bytes"), 1)
    assert read(once)[0].nbytes == 12
    assert read(used_often(b"](K\x01K\x02e", named("builtins", "set"), 1)) == [{1, 2}]


def test_overlapping_archives_are_refused(tmp_path: Path, read: Callable[[bytes], Any]) -> None:
    """Each member's bytes are the members after it: a small archive with large contents."""
    names = [b"x/data.pkl", *(b"x/data/%d" % i for i in range(20))]
    head = struct.Struct("<4s5H3I2H")
    heads = [head.pack(b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name for name in names]
    whole = b"".join(heads) + bytes(10_000)
    directory, place = b"", 0
    for name, start in zip(names, heads, strict=True):
        data = whole[place + len(start) :]
        sizes = (zlib.crc32(data), len(data), len(data), len(name), 0, 0, 0, 0, 0, place)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes) + name
        place += len(start)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), len(whole), 0)
    with pytest.raises(ImportRefusedError, match="larger than itself"):
        read(whole + directory + end)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(CheckpointImportError, match="no file"):
        read_checkpoint_file(tmp_path / "pipe.pkl")


# Networks that are not what they say. ----------------------------------------------------------------------------


def refused(value: Any, tmp_path: Path, raw: bytes | None = None) -> str:
    """What the answer says; `raw` replaces the text "RAW" in the pickle."""
    data = dump(value, 3)
    if raw is not None:
        mark = b"X\x03\x00\x00\x00RAW"
        assert data.count(mark) == 1
        data = data.replace(mark, raw)
    return refused_bytes(data, tmp_path)


def refused_bytes(data: bytes, tmp_path: Path) -> str:
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    with pytest.raises(CheckpointImportError) as error:
        import_checkpoint(path, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    said = str(error.value)
    assert len(said.splitlines()) <= 3 and all(line.isprintable() for line in said.splitlines())
    return said


def alone(case: str, *where: str, **attributes: Any) -> dict[str, Any]:
    value = content(case)["G_ema"]
    node = value
    for name in where:
        node = node.state["_modules"][name]
    node.state.update(attributes)
    return {"G_ema": value}


def arguments(case: str, **changes: Any) -> dict[str, Any]:
    return alone(case, _init_kwargs={**content(case)["G_ema"].state["_init_kwargs"], **changes})


@pytest.mark.parametrize(
    ("value", "raw", "told"),
    [
        (alone("ada-skip", "synthesis", "b8", "conv0", conv_clamp="RAW"), tree_of_tuples(60), "is a tuple"),
        (alone("ada-skip", "mapping", "fc0", bias_gain="RAW"), integer(1 << 20_000), "a very large number"),
        (alone("ada-skip", "synthesis", "b8", "conv0", conv_clamp="\x1b[31m\n  fix: x"), None, "is a str"),
        (arguments("ada-skip", synthesis_kwargs={"activation": "nope"}), None, "nope"),
        (arguments("ada-skip", synthesis_kwargs={"architecture": "\x1b[31m"}), None, "no plain values"),
        (arguments("ada-skip", synthesis_kwargs={"architecture": "ab" * 10_000}), None, "no plain values"),
        (arguments("s3-t", **{"\x1b[31m\n  fix: x": 1}), None, "no plain name"),
        (arguments("s3-t", unheard_of="RAW"), integer(1 << 20_000), "no plain values"),
        (arguments("s3-t", mapping_kwargs={str(i): [[0] * 64] * 64 for i in range(90)}), None, "too many"),
        (arguments("s3-t", mapping_kwargs=None), None, "not the official"),
        (arguments("s3-t", first_stopband=1e-10), None, "sampling rate"),
        (arguments("s3-t", first_cutoff=-1.5), None, "not the official"),
        (
            arguments("s3-r", img_resolution=4096, filter_size=64, lrelu_upsampling=16),
            None,
            "filter is too long",
        ),
        (arguments("ada-conditional", c_dim=1 << 20), None, "c_dim is too large"),
        (alone("s3-t", "mapping", _modules={"n" * 10_000: None}), None, "too long"),
        (alone("s3-t", "mapping", _parameters={str(i): None for i in range(2000)}), None, "too many"),
        (alone("s3-t", "mapping", _buffers={"w_avg": torch.full((16,), float("nan"))}), None, "not finite"),
        (
            alone("s3-t", "mapping", _buffers={"w_avg": torch.full((16,), 1e300, dtype=torch.float64)}),
            None,
            "not finite",
        ),
        (alone("s3-t", "mapping", _buffers={"w_avg": torch.zeros(1 << 40, 0)}), None, "is empty"),
    ],
)
def test_networks_that_would_hurt_are_refused(value: Any, raw: bytes | None, told: str, tmp_path: Path) -> None:
    assert told in refused(value, tmp_path, raw)


def test_g_that_is_built_otherwise_than_g_ema_is_refused(tmp_path: Path) -> None:
    value = content("ada-skip")
    state = value["G"].state
    mapping = {**state["_init_kwargs"].get("mapping_kwargs", {}), "w_avg_beta": 0.5}
    state["_init_kwargs"] = {**state["_init_kwargs"], "mapping_kwargs": mapping}
    state["_modules"]["mapping"].state["w_avg_beta"] = 0.5
    assert "not built alike" in refused(value, tmp_path)


def test_numbers_of_the_training_set_cannot_hurt(tmp_path: Path) -> None:
    value = {**content("s3-t"), "training_set_kwargs": {"max_size": 10**5000, "\x1b": 1}}
    (tmp_path / "network.pkl").write_bytes(dump(value))
    run = import_checkpoint(tmp_path / "network.pkl", tmp_path / "run", quiet=True)
    assert run.config["data"]["count"] == 0


def super_resolution(**changes: Any) -> dict[str, Any]:
    return {**RRDBNet(3, 4, 4, 1, 2).state_dict(), **{name.replace("__", "."): t for name, t in changes.items()}}


SHARED = torch.zeros(1 << 20)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (super_resolution(body__999999999__rdb1__conv1__weight=torch.zeros(1)), "numbered 999999999"),
        (super_resolution(**{f"conv_up{i}.weight": torch.zeros(4, 4, 3, 3) for i in range(3, 40)}), "enlargements"),
        (super_resolution(conv_first__weight=torch.zeros(30_000, 3, 0, 3)), "is empty"),
        (super_resolution(conv_last__weight=torch.zeros(0, 4, 3, 3)), "is empty"),
        (super_resolution(conv_first__weight=torch.zeros(4, 3, 3, 3).long()), "torch.int64"),
        (super_resolution(conv_first__weight=torch.full((4, 3, 3, 3), float("inf"))), "not finite"),
        (super_resolution(**{"\x1b]0;x\x07\n  fix: y": torch.zeros(1)}), "do not fit"),
        ({"conv_first.weight": torch.zeros(1), "\x1b[31m\u202e": torch.zeros(1)}, "no network we know"),
        ({f"a{i}": SHARED for i in range(10)}, "share their numbers"),
        ({"module." * 3000 + "w": torch.zeros(1)}, "no network we know"),
    ],
)
def test_state_dicts_that_would_hurt_are_refused(state: Any, told: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.save(state, out)
    assert told in refused_bytes(out.getvalue(), tmp_path)


def test_blocks_of_srgan_are_counted_with_care() -> None:
    names = (
        "block1.0",
        "block1.prelu",
        "block2.conv1",
        "block2.bn1",
        "block2.prelu",
        "block9.0.conv",
        "block9.0.prelu",
    )
    state = {f"{name}.weight": torch.zeros(1) for name in (*names, "block99999999.0.conv")}
    with pytest.raises(CheckpointImportError, match="numbered 99999999"):
        sr_from_state(state)


def test_a_state_dict_that_wraps_itself() -> None:
    loop: dict[str, Any] = {}
    loop["params"] = loop
    assert plain_state(loop) is None


@pytest.mark.parametrize("stages", [1, 13, 5000])
def test_r3gan_of_impossible_sizes_is_refused_at_once(stages: int) -> None:
    one, flat = torch.zeros(1, 1, 1, 1), torch.zeros(1, 9, 1, 1)
    state = {}
    for i in range(stages):
        state[f"MainLayers.{i}.Layers.1.LinearLayer1.Layer.weight"] = one
        state[f"MainLayers.{i}.Layers.1.LinearLayer2.Layer.weight"] = flat  # no group at all
    state["MainLayers.0.Layers.0.Basis"] = torch.zeros(1, 4, 4)
    state["MainLayers.0.Layers.0.LinearLayer.weight"] = torch.zeros(1, 4)
    state["AggregationLayer.Layer.weight"] = one
    with pytest.raises(CheckpointImportError):
        r3gan_from_state(state)
    with pytest.raises(CheckpointImportError):
        r3gan_from_state({**state, "EmbeddingLayer.weight": torch.zeros(1, 30_001)})


def test_a_fresh_discriminator_out_of_proportion_is_refused() -> None:
    """A small generator of high frequencies alone, whose settings give a discriminator of 17 GB."""
    changes = {"channel_base": 65536, "channel_max": 16384, "first_cutoff": 2040.0, "first_stopband": 2200.0}
    settings = resolve("stylegan3", {**changes, "z_dim": 8, "w_dim": 8, "resolution": 4096})
    data = DataSpec(DataKind.IMAGES, "x", 0, "0", 4096, 3)
    with torch.device("meta"):
        shapes = Generator(generator_plan(settings.recipe, data)).state_dict()  # type: ignore[arg-type]
    state = {name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}
    assert sum(tensor.numel() for tensor in state.values()) < 1 << 20
    with pytest.raises(CheckpointImportError, match="many times as large"):
        _recipe(Foreign("stylegan3", settings, data, state, state, None))


@pytest.mark.parametrize("name", [b"\xff\xfe.pkl", b"a\n\x1b[31m[red].pkl", b"n" * 250 + b".pkl"])
def test_names_of_files_cannot_hurt(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(dump(content("ada-orig")))
    run = import_checkpoint(path)
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and run.path.name.isprintable() and len(run.path.name) < 120
    assert Run.open(run.path).config["imported"]["file"].isprintable() and run.events("imported")


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


@pytest.mark.parametrize(
    ("start", "told"), [(b"\x89PNG\r\n\x1a\n", "a PNG picture"), (b"\x93NUMPY\x01\x00", "a NumPy array")]
)
def test_what_people_give_by_mistake_is_named(start: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(start + bytes(100))
    with pytest.raises(CheckpointImportError, match=told):
        import_checkpoint(path, tmp_path / "run")
