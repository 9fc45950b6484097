"""A pickle reader that runs nothing: it walks the opcodes and builds plain containers, and calls nothing but our own rules.

Python's unpickler imports whatever a file names and calls it. This one has no way to do so: a name in the file is looked up in
a table of `Rule`s (in `admitted.py`), functions of ours on plain values, and any other name stops the reading. Which
names are admitted, and what a tensor or a network is, is not known here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ganwright.errors import GanwrightError

MAX_OPCODES = 20_000_000
"""More than any real checkpoint has (they have 10⁴ to 10⁶), few enough to stop in a minute."""
_KEY_TYPES = (str, int, float, bool, bytes, type(None))


class ImportFailed(GanwrightError):
    """Someone else's file is damaged, or is of no kind we know."""


class ImportRefused(ImportFailed):
    """Someone else's file asks for something that is not admitted; nothing of it was run."""


class Stream(Protocol):
    """A binary file whose reads never give more than there is (`io.BytesIO`, `mmap.mmap`)."""

    def read(self, n: int = ..., /) -> bytes:
        """Up to n bytes."""

    def readline(self) -> bytes:
        """Up to the next newline."""

    def tell(self) -> int:
        """Where it stands."""

    def seek(self, pos: int, whence: int = ..., /) -> Any:
        """Go there."""


@dataclass(frozen=True)
class Global:
    """A name in a pickle. It is data: nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Inert:
    """What stands for an instance of somebody's class: its name, and what it was made from.

    Attributes:
        name: Dotted name of the class.
        state: Its attributes.
        source: Source text that came with it, never run.
    """

    name: str
    state: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def build(self, state: Any) -> None:
        """Take attributes, as data.

        Raises:
            ImportRefused: They are no dictionary.
        """
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise ImportRefused(f"The state of an object of {self.name} is no dictionary of attributes.")
        self.state.update(state)


@dataclass(frozen=True)
class Rule:
    """What is done where the file calls an admitted name.

    Attributes:
        call: From the arguments, all plain values, to a plain value. None: the name may stand as data only.
        new: Whether it may be used as a class (opcode NEWOBJ) too.
    """

    call: Callable[..., Any] | None = None
    new: bool = False


Rules = Mapping[tuple[str, str], Rule]


class _Mark:
    """Where a group of stack items begins."""


_MARK = _Mark()


class Machine:
    """One pickle being read.

    Args:
        stream: Where from, beginning at its present position.
        rules: The admitted names, by module and name (not joined, so that dots cannot be shifted between them).
        persistent: What a persistent id stands for; None: there may be none.
        inside: What to add to positions in errors, such as " in a nested storage".
    """

    def __init__(
        self, stream: Stream, rules: Rules, persistent: Callable[[Any], Any] | None = None, inside: str = ""
    ) -> None:
        self.stream, self.rules, self.persistent, self.inside = stream, rules, persistent, inside
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.position = 0

    def run(self) -> Any:
        """Read up to the STOP opcode.

        Returns:
            Plain values, `Inert`s, `Global`s and what the rules make.

        Raises:
            ImportRefused: Something is asked for that is not admitted; the error names it and its position.
            ImportFailed: The file is damaged.
        """
        try:
            for count, (opcode, argument, position) in enumerate(pickletools.genops(self.stream)):  # type: ignore[arg-type]
                self.position = position or 0
                if count > MAX_OPCODES:
                    raise self.refused("The file has more instructions than any checkpoint.")
                if opcode.name == "STOP":
                    return self.pop()
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise self.refused(f"The file uses the pickle instruction {opcode.name}, which no checkpoint needs.")
                step(self, argument)
        except ImportFailed as error:
            raise self.located(error) from None
        except RecursionError:
            raise self.refused("The file is nested too deeply.") from None
        except MemoryError:
            raise self.refused("The file asks for more memory than there is.") from None
        except Exception as error:  # damaged in any of a hundred ways: all say the same to the user
            raise ImportFailed(
                f"The file is damaged, or is no pickle ({type(error).__name__}).",
                where=self.place(),
                fix="download it again and compare its size or hash with the publisher's",
            ) from error
        raise ImportFailed("The file ends before its pickle does.", where=self.place())

    # For the steps. ----------------------------------------------------------------------------------------------

    def place(self) -> str:
        """The present position, for people."""
        return f"byte {self.position}{self.inside}"

    def refused(self, what: str, fix: str | None = None) -> ImportRefused:
        """An error at the present position."""
        return ImportRefused(
            f"{what} Nothing in the file was run.",
            where=self.place(),
            fix=fix or "do not open this file with other programs either, unless you trust its author fully",
        )

    def located(self, error: ImportFailed) -> ImportFailed:
        """The error, with a position if it had none."""
        if error.where is not None:
            return error
        if isinstance(error, ImportRefused) and "Nothing in the file was run" not in error.what:
            return self.refused(error.what, error.fix)
        return type(error)(error.what, where=self.place(), fix=error.fix)

    def push(self, value: Any) -> None:
        """Put on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take from the stack."""
        value = self.stack.pop()
        if value is _MARK:
            raise ImportFailed("The file is damaged: a value is missing.")
        return value

    def pop_group(self) -> list[Any]:
        """Take everything above the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                group = self.stack[at + 1 :]
                del self.stack[at:]
                return group
        raise ImportFailed("The file is damaged: a mark is missing.")

    def top(self, kind: type[Any], what: str) -> Any:
        """The topmost value, which must be of exactly this kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise self.refused(f"The file {what} something that is no {kind.__name__}.")
        return self.stack[-1]

    def key(self, value: Any) -> Any:
        """A value that may be a key: hashing nested tuples can exhaust the stack of C."""
        if type(value) in _KEY_TYPES or type(value) is tuple and all(type(item) in _KEY_TYPES for item in value):
            return value
        raise self.refused(f"A {type(value).__name__} is used as a key.")

    def find(self, module: Any, name: Any) -> Global:
        """An admitted name."""
        if type(module) is not str or type(name) is not str:
            raise self.refused("A name in the file is no text.")
        if (module, name) not in self.rules:
            raise _unknown(self, Global(module, name))
        return Global(module, name)

    def rule(self, callee: Any) -> Rule:
        """What to do for a name that is called."""
        if type(callee) is not Global:
            raise self.refused(f"The file calls a {type(callee).__name__}, which is data.")
        rule = self.rules[callee.module, callee.name]
        if rule.call is None:
            raise self.refused(f"The file calls {callee}, which is admitted as data only.")
        return rule


def _unknown(machine: Machine, name: Global) -> ImportRefused:
    shown = ascii(str(name))[1:201].removesuffix("'")
    if name.module.startswith("dnnlib.tflib"):
        return machine.refused(
            f"This is a pickle of the old TensorFlow StyleGAN: it needs {shown}.",
            "convert it once with `legacy.py` of NVIDIA's stylegan3 repository, in an environment you can throw away "
            "(that program runs the pickle), and import the result",
        )
    return machine.refused(f"The file asks for {shown}, which is not among the few names a checkpoint needs.")


# One function an opcode. ---------------------------------------------------------------------------------------


def _nothing(machine: Machine, argument: Any) -> None:
    """PROTO and FRAME only announce what follows."""


def _value(machine: Machine, argument: Any) -> None:
    machine.push(argument)


def _constant(value: Any) -> Callable[[Machine, Any], None]:
    return lambda machine, argument: machine.push(value)


def _pop(machine: Machine, argument: Any) -> None:
    machine.stack.pop()


def _dup(machine: Machine, argument: Any) -> None:
    machine.push(machine.stack[-1])


def _tuple(size: int) -> Callable[[Machine, Any], None]:
    def step(machine: Machine, argument: Any) -> None:
        items = [machine.pop() for _ in range(size)]
        machine.push(tuple(reversed(items)))

    return step


def _dict(machine: Machine, argument: Any) -> None:
    items = machine.pop_group()
    machine.push({})
    _put_items(machine, machine.stack[-1], items)


def _set_items(machine: Machine, argument: Any) -> None:
    items = machine.pop_group()
    _put_items(machine, machine.top(dict, "puts items into"), items)


def _set_item(machine: Machine, argument: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _put_items(machine, machine.top(dict, "puts items into"), [key, value])


def _put_items(machine: Machine, target: dict[Any, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[machine.key(key)] = value


def _append(machine: Machine, argument: Any) -> None:
    value = machine.pop()
    machine.top(list, "appends to").append(value)


def _appends(machine: Machine, argument: Any) -> None:
    items = machine.pop_group()
    machine.top(list, "appends to").extend(items)


def _add_items(machine: Machine, argument: Any) -> None:
    items = machine.pop_group()
    machine.top(set, "adds to").update(machine.key(item) for item in items)


def _put(machine: Machine, argument: Any) -> None:
    if machine.stack[-1] is _MARK:
        raise machine.refused("The file remembers a mark as if it were a value.")
    machine.memo[argument] = machine.stack[-1]


def _memoize(machine: Machine, argument: Any) -> None:
    _put(machine, len(machine.memo))


def _get(machine: Machine, argument: Any) -> None:
    machine.push(machine.memo[argument])


def _global(machine: Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.push(machine.find(module, name))


def _stack_global(machine: Machine, argument: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.find(module, name))


def _arguments(machine: Machine) -> tuple[Any, ...]:
    arguments = machine.pop()
    if type(arguments) is not tuple:
        raise machine.refused("A call's arguments are no tuple.")
    return arguments


def _reduce(machine: Machine, argument: Any) -> None:
    arguments = _arguments(machine)
    callee = machine.pop()
    call = machine.rule(callee).call
    assert call is not None
    machine.push(call(*arguments))


def _new_object(machine: Machine, argument: Any) -> None:
    arguments = _arguments(machine)
    callee = machine.pop()
    rule = machine.rule(callee)
    if not rule.new:
        raise machine.refused(f"The file makes an object of {callee}, which is admitted as a function only.")
    assert rule.call is not None
    machine.push(rule.call(*arguments))


def _build(machine: Machine, argument: Any) -> None:
    state = machine.pop()
    target = machine.stack[-1]
    if type(target) is dict:
        # torch gives a state dict the attribute `_metadata`, which holds version numbers of modules.
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise machine.refused("The file gives attributes to a dictionary.")
        return
    build = _BUILDERS.get(type(target))
    if build is None:
        raise machine.refused(f"The file gives a state to a {type(target).__name__}.")
    build(target, state)


def _persistent(machine: Machine, argument: Any) -> None:
    if machine.persistent is None:
        raise machine.refused("The file refers to a storage outside itself.")
    machine.push(machine.persistent(machine.pop()))


_BUILDERS: dict[type[Any], Callable[[Any, Any], None]] = {Inert: Inert.build}
"""Types of ours that take a state; `admitted.py` adds those of arrays."""


def buildable(kind: type[Any], build: Callable[[Any, Any], None]) -> None:
    """Let values of a type of ours take a state (opcode BUILD) through this function."""
    _BUILDERS[kind] = build


_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
).split()

_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(_VALUES, _value),
    "BYTEARRAY8": lambda machine, argument: machine.push(bytes(argument)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": _memoize,
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "MARK": _constant(_MARK),
    "POP": _pop,
    "POP_MARK": lambda machine, argument: machine.pop_group().clear(),
    "DUP": _dup,
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "EMPTY_SET": lambda machine, argument: machine.push(set()),
    "LIST": lambda machine, argument: machine.push(machine.pop_group()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_group())),
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
"""Left out on purpose: INST, OBJ, NEWOBJ_EX (other ways to call), EXT1-4 (the extension registry), PERSID, FROZENSET
and the out-of-band buffers."""
