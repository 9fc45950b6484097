"""Tensors and arrays from the parts a pickle stores of them: bytes, sizes and strides, checked against each other.

Nothing is allocated that the file does not hold, and no view may reach outside its storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganwright.interop.restricted import Buildable, Global, ImportRefusedError, Rule

MAX_DIMENSIONS = 8
STORAGE_TYPES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
"""Element types of torch's storages, by the name of the class."""
_DTYPES = {
    f"{kind}{size}" for kind, sizes in {"b": "1", "i": "1248", "u": "1248", "f": "248"}.items() for size in sizes
}


class Storage:
    """The numbers of one or several tensors, not filled yet.

    Args:
        dtype: What they are.
        count: How many; the caller has made sure that the file has that many.
    """

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.nbytes = count * dtype.itemsize
        self._bytes = bytearray(self.nbytes)
        self.flat = torch.frombuffer(self._bytes, dtype=dtype) if count else torch.empty(0, dtype=dtype)

    def fill(self, data: bytes) -> None:
        """Take the numbers, as little-endian bytes.

        Raises:
            ImportRefusedError: They are more or fewer than was said.
        """
        if len(data) != self.nbytes:
            raise ImportRefusedError("A storage says it is of another size than its bytes.")
        self._bytes[:] = data


def storage_dtype(kind: Any) -> torch.dtype:
    """The element type of a storage class that the file names.

    Raises:
        ImportRefusedError: It is none.
    """
    if type(kind) is not Global or kind.name not in STORAGE_TYPES:
        raise ImportRefusedError("A storage is of an unknown type.")
    return STORAGE_TYPES[kind.name]


def naturals(value: Any, what: str) -> tuple[int, ...]:
    """A tuple of a few whole numbers ≥ 0.

    Raises:
        ImportRefusedError: It is something else.
    """
    fits = type(value) is tuple and len(value) <= MAX_DIMENSIONS
    if not fits or not all(type(item) is int and 0 <= item < 1 << 62 for item in value):
        raise ImportRefusedError(f"The {what} of a tensor makes no sense.")
    return tuple(value)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *ignored: Any) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`; whether it needs a gradient and its hooks are ignored.

    Raises:
        ImportRefusedError: The view reaches outside its storage, or is larger than it.
    """
    if type(storage) is not Storage or type(offset) is not int or offset < 0:
        raise ImportRefusedError("A tensor is built from something that is no storage.")
    size, stride = naturals(size, "size"), naturals(stride, "stride")
    there = storage.flat.numel()
    if len(size) != len(stride):
        raise ImportRefusedError("A tensor has as many strides as dimensions; here it has not.")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count > there or (count > 0 and last >= there):
        raise ImportRefusedError(f"A tensor reaches outside its storage, which has {there} numbers.")
    return storage.flat.as_strided(size, stride, offset) if count else storage.flat.new_empty(size)


def rebuild_parameter(data: Any, *ignored: Any) -> Tensor:
    """`torch._utils._rebuild_parameter`: the tensor itself.

    Raises:
        ImportRefusedError: It is no tensor.
    """
    if not isinstance(data, Tensor):
        raise ImportRefusedError("A parameter is made of something that is no tensor.")
    return data


# numpy. ---------------------------------------------------------------------------------------------------------


@dataclass
class DType(Buildable):
    """A numpy dtype of plain numbers.

    Attributes:
        code: Such as "f8".
        order: "<", ">" or "|".
    """

    code: str
    order: str = "<"

    def build(self, state: Any) -> None:
        """Take the byte order.

        Raises:
            ImportRefusedError: The state describes fields, sub-arrays or the like.
        """
        plain = type(state) is tuple and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or type(state[1]) is not str or state[1] not in "<>|=":
            raise ImportRefusedError("A numpy dtype has fields or a form that no checkpoint needs.")
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype itself."""
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


@dataclass
class Array(Buildable):
    """A numpy array, empty until the file has given its state."""

    value: np.ndarray[Any, Any]

    def build(self, state: Any) -> None:
        """Take (version, shape, dtype, whether in Fortran order, bytes).

        Raises:
            ImportRefusedError: The array holds Python objects, or says it is larger than its bytes.
        """
        if type(state) is not tuple or len(state) != 5 or type(state[3]) is not bool:
            raise ImportRefusedError("A numpy array has a state of an unknown form.")
        self.value = _array(state[4], state[2], state[1], "F" if state[3] else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    if type(dtype) is not DType or type(data) is not bytes:
        raise ImportRefusedError("A numpy array holds Python objects.")
    shape = naturals(shape, "shape")
    if math.prod(shape) * dtype.numpy.itemsize != len(data):
        raise ImportRefusedError("A numpy array says it is of another size than its bytes.")
    flat = np.frombuffer(data, dtype.numpy)  # not copied, whatever the byte order
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _size(size: Any) -> tuple[int, ...]:
    return naturals(tuple(size) if type(size) is list else size, "size")


def _dtype(code: Any, *ignored: Any) -> DType:
    if type(code) is not str or code not in _DTYPES:
        raise ImportRefusedError("A numpy dtype is not one of plain numbers (such as Python objects).")
    return DType(code)


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if type(kind) is not Global or (kind.module, kind.name) != ("numpy", "ndarray"):
        raise ImportRefusedError("A numpy array is of a class that is no numpy array.")
    return Array(np.empty(0))


def _scalar(dtype: Any, data: Any) -> bool | int | float:
    if type(dtype) is not DType or type(data) is not bytes or len(data) != dtype.numpy.itemsize:
        raise ImportRefusedError("A numpy number holds a Python object.")
    number: bool | int | float = np.frombuffer(data, dtype.numpy)[0].item()
    return number


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return Array(_array(data, dtype, shape, "F" if order == "F" else "C"))


STORAGE_RULES: dict[tuple[str, str], Rule] = {
    **{("torch", name): Rule() for name in STORAGE_TYPES},
    ("torch.storage", "UntypedStorage"): Rule(),
}
"""Names that say what a storage holds."""

TENSOR_RULES: dict[tuple[str, str], Rule] = {
    ("torch._utils", "_rebuild_tensor"): Rule(rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Rule(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Rule(rebuild_parameter),
    ("torch", "Size"): Rule(_size, new=True),
    **{
        ("torch", name): Rule()
        for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
    },
}
"""Names that make tensors of storages."""

NUMPY_RULES: dict[tuple[str, str], Rule] = {
    ("numpy", "dtype"): Rule(_dtype),
    ("numpy", "ndarray"): Rule(),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Rule(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Rule(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Rule(_from_buffer) for core in ("core", "_core")},
}
"""Names that make arrays and numbers; numpy renamed its core in version 2."""
