"""Files written by `torch.save`, read by our own machine: the zip format, and the older one.

The older one lives on inside pickles, where each storage is a file of its own.

`torch.load` is not used: even its restricted mode has had holes, and the older format lets a file claim any size.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import PurePosixPath
from typing import Any

from ganwright.interop.opcodes import read_pickle
from ganwright.interop.restricted import Budget, CheckpointImportError, ImportRefusedError, Rules, Stream
from ganwright.interop.tensors import STORAGE_RULES, Storage, storage_dtype

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The number that begins a file of the older format."""
_LEGACY_PROTOCOL = 1001


class BytesStream(io.BytesIO):
    """Bytes as a stream that knows its size."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)

    def size(self) -> int:
        """Bytes from beginning to end."""
        return self._size


def load_from_bytes(data: Any, budget: Budget) -> Storage:
    """`torch.storage._load_from_bytes`, for what it is used for: one storage in the older format.

    Args:
        data: The file.
        budget: Of the pickle around it.

    Raises:
        ImportRefusedError: The bytes hold anything else.
    """
    if type(data) is not bytes:
        raise ImportRefusedError("A storage is not made of bytes.")
    value = read_legacy(BytesStream(data), STORAGE_RULES, " of a nested storage", budget)
    if type(value) is not Storage:
        raise ImportRefusedError("A nested storage holds something else.")
    return value


def read_legacy(stream: Stream, rules: Rules, inside: str = "", budget: Budget | None = None) -> Any:
    """The content of a file of the older format; the stream stands at its beginning.

    Raises:
        ImportRefusedError: It asks for something that is not admitted.
        CheckpointImportError: It is damaged.
    """
    for expected in (LEGACY_MAGIC, _LEGACY_PROTOCOL):
        if read_pickle(stream, {}, inside=inside, budget=budget) != expected:
            raise CheckpointImportError(f"The file is damaged{inside}: it does not begin as a file of torch does.")
    system = read_pickle(stream, {}, inside=inside, budget=budget)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointImportError("The file was written on a big-endian machine, which is not supported.")
    # The numbers come after the pickle that refers to them: storages are made empty, and filled afterwards.
    storages: dict[str, Storage] = {}
    left = [stream.size() - stream.tell()]

    def persistent(ident: Any) -> Storage:
        kind, key, count = _parse(ident)
        dtype = storage_dtype(kind)
        if key not in storages:
            left[0] -= count * dtype.itemsize
            if left[0] < 0:
                raise ImportRefusedError("A storage says it is larger than the file.")
            storages[key] = Storage(dtype, count)
        if (storages[key].flat.dtype, storages[key].flat.numel()) != (dtype, count):
            raise ImportRefusedError("One storage is described in two ways.")
        return storages[key]

    value = read_pickle(stream, rules, persistent, inside, budget)
    keys = read_pickle(stream, {}, inside=inside, budget=budget)
    as_text = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not as_text or sorted(keys) != sorted(storages):
        raise CheckpointImportError(f"The file is damaged{inside}: its list of storages is wrong.")
    for key in keys:
        _fill(storages[key], stream)
    return value


def read_zip(file: zipfile.ZipFile, rules: Rules, size: int) -> Any:
    """The content of a file of the zip format.

    Args:
        file: The archive.
        rules: The admitted names.
        size: Bytes of the archive.

    Raises:
        ImportRefusedError: It asks for something that is not admitted, or would swell when unpacked.
        CheckpointImportError: It is no file of torch.
    """
    pickles = [name for name in file.namelist() if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointImportError("The archive is no checkpoint of torch: it should hold one data.pkl.")
    if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
        raise ImportRefusedError("The archive is compressed, which torch never does; it might swell without bound.")
    if sum(info.file_size for info in file.infolist()) > sum(info.compress_size for info in file.infolist()):
        raise ImportRefusedError("The archive says its members are larger than they are.")
    if sum(info.file_size for info in file.infolist()) > size:  # they overlap
        raise ImportRefusedError("The archive says its members are larger than itself.")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in file.namelist() and file.read(f"{folder}byteorder") != b"little":
        raise CheckpointImportError("The file was written on a big-endian machine, which is not supported.")
    storages: dict[str, Storage] = {}

    def persistent(ident: Any) -> Storage:
        kind, key, count = _parse(ident)
        dtype = storage_dtype(kind)
        if key not in storages:
            data = _member(file, f"{folder}data/{key}", count * dtype.itemsize)
            storages[key] = Storage(dtype, count)
            storages[key].fill(data)
        if storages[key].flat.dtype != dtype:
            raise ImportRefusedError("One storage is used as two types of number.")
        return storages[key]

    return read_pickle(BytesStream(file.read(pickles[0])), rules, persistent, " of data.pkl")


def _member(file: zipfile.ZipFile, name: str, size: int) -> bytes:
    try:
        info = file.getinfo(name)
    except KeyError:
        raise CheckpointImportError("The file is damaged: a storage is missing.") from None
    if info.file_size != size:
        raise ImportRefusedError("A storage says it is of another size than its bytes.")
    return file.read(info)


def _parse(ident: Any) -> tuple[Any, str, int]:
    """(class, key, number of elements) of a persistent id; where the storage once lived (its device) is ignored."""
    well_formed = type(ident) is tuple and len(ident) in (5, 6) and ident[0] == "storage"
    if not well_formed or type(ident[2]) is not str or type(ident[4]) is not int or ident[4] < 0:
        raise ImportRefusedError("A storage is described in an unknown way.")
    if len(ident) == 6 and ident[5] is not None:
        raise ImportRefusedError("A storage is a view of another one, which only very old files have.")
    return ident[1], ident[2], ident[4]


def _fill(storage: Storage, stream: Stream) -> None:
    count = stream.read(8)
    if len(count) != 8 or struct.unpack("<q", count)[0] != storage.flat.numel():
        raise ImportRefusedError("A storage says it is of another size than its bytes.")
    storage.fill(stream.read(storage.nbytes))
