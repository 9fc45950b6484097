"""What each instruction of a pickle does to our machine, and the function that reads one pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ganwright.interop.restricted import MARK, Budget, Buildable, Machine, Rules, Stream


def read_pickle(
    stream: Stream,
    rules: Rules,
    persistent: Callable[[Any], Any] | None = None,
    inside: str = "",
    budget: Budget | None = None,
) -> Any:
    """One pickle from the stream, without running anything; the arguments and errors are those of `Machine`."""
    return Machine(stream, rules, persistent, inside, budget).run(STEPS)


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
    if machine.stack[-1] is MARK:
        raise machine.refused("The file remembers a mark as if it were a value.")
    if not 0 <= argument < 1 << 32:
        raise machine.refused("The file numbers what it remembers in a way that no pickler does.")
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
    machine.push(machine.call(machine.pop(), arguments, new=False))


def _new_object(machine: Machine, argument: Any) -> None:
    arguments = _arguments(machine)
    machine.push(machine.call(machine.pop(), arguments, new=True))


def _build(machine: Machine, argument: Any) -> None:
    state = machine.pop()
    target = machine.stack[-1]
    if type(target) is dict:
        # torch gives a state dict the attribute `_metadata`, which holds version numbers of modules.
        if type(state) is not dict or len(state) > 1 or (state and "_metadata" not in state):
            raise machine.refused("The file gives attributes to a dictionary.")
        return
    if not isinstance(target, Buildable):
        raise machine.refused(f"The file gives a state to a {type(target).__name__}.")
    target.build(state)


def _persistent(machine: Machine, argument: Any) -> None:
    if machine.persistent is None:
        raise machine.refused("The file refers to a storage outside itself.")
    machine.push(machine.persistent(machine.pop()))


_VALUES = [
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
]

STEPS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(_VALUES, _value),
    "BYTEARRAY8": lambda machine, argument: machine.push(bytes(argument)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": _memoize,
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "MARK": _constant(MARK),
    "POP": _pop,
    "POPMARK": lambda machine, argument: machine.pop_group().clear(),
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
