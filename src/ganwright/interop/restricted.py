"""A machine that reads pickles and runs nothing: it builds plain containers, and calls nothing but our own rules.

Python's unpickler imports whatever a file names and calls it. This one has no way to do so: a name in the file is
looked up in a table of `Rule`s (in `admitted.py`), functions of ours on plain values, and any other name stops the
reading. What each instruction does is in `opcodes.py`; what a tensor or a network is, is not known here.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ganwright.errors import GanwrightError

MAX_OPCODES = 1_000_000
"""More than any real checkpoint has (they have 10⁴ to 10⁵), few enough to stop in seconds and fit into memory."""
_KEY_TYPES = (str, float, bool, bytes, type(None))
_SHOWN = 2000


def printable(text: str) -> str:
    """The text with whatever could steer a terminal, forge a line or hide (controls, direction marks) escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class CheckpointImportError(GanwrightError):
    """Someone else's file is damaged, or is of no kind we know.

    Texts may quote the file: they are made printable and cut. The arguments are those of `GanwrightError`.
    """

    def __init__(self, what: str, *, where: object | None = None, fix: str | None = None) -> None:
        place = None if where is None else printable(str(where)[:_SHOWN])
        super().__init__(printable(what[:_SHOWN]), where=place, fix=fix and printable(fix[:_SHOWN]))


class ImportRefusedError(CheckpointImportError):
    """Someone else's file asks for something that is not admitted; nothing of it was run."""


class Stream(Protocol):
    """A binary file whose reads never give more than there is (`io.BytesIO`, `mmap.mmap`)."""

    def read(self, n: int = ..., /) -> bytes:
        """Up to n bytes."""

    def readline(self) -> bytes:
        """Up to the next newline."""

    def tell(self) -> int:
        """Where it stands."""

    def size(self) -> int:
        """Bytes from beginning to end."""


@dataclass
class Budget:
    """What a file may still ask of us: shared by a pickle and the pickles inside it.

    Attributes:
        instructions: How many; the parts of what a call is given count too, as something is done with each.
        nbytes: Bytes that calls may be given: no more than the file has, or one text used often would fill memory.
    """

    instructions: int
    nbytes: int

    def spend(self, arguments: tuple[Any, ...]) -> None:
        """Pay for a call.

        Raises:
            ImportRefusedError: There is not enough left.
        """
        self.instructions -= len(arguments)
        for argument in arguments[:16]:
            if isinstance(argument, list | tuple | dict | set):
                self.instructions -= len(argument)
            elif isinstance(argument, bytes):
                self.nbytes -= len(argument)
        if self.instructions < 0 or self.nbytes < 0:
            raise ImportRefusedError("The file uses the same parts over and over, to take time or memory.")


@dataclass(frozen=True)
class Global:
    """A name in a pickle. It is data: nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Buildable(ABC):
    """Values of ours that take a state (opcode BUILD) by themselves."""

    @abstractmethod
    def build(self, state: Any) -> None:
        """Take the state, which is data.

        Raises:
            ImportRefusedError: It has not the form it should have.
        """


@dataclass
class Inert(Buildable):
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
            ImportRefusedError: They are no dictionary, or there are some already.
        """
        if type(state) is not dict:
            raise ImportRefusedError(f"The state of an object of {self.name} is no dictionary of attributes.")
        if self.state:
            raise ImportRefusedError(f"An object of {self.name} is given two states.")
        self.state = state  # not copied: many objects could share one large state


@dataclass(frozen=True)
class Rule:
    """What is done where the file calls an admitted name.

    Attributes:
        call: From the arguments, all plain values, to a plain value. None: the name may stand as data only.
        new: Whether it may be used as a class (opcode NEWOBJ) too.
        nested: Whether it reads a pickle of its own: it is given the `Budget` as its last argument.
    """

    call: Callable[..., Any] | None = None
    new: bool = False
    nested: bool = False


Rules = Mapping[tuple[str, str], Rule]


class _Mark:
    """Where a group of stack items begins."""


MARK = _Mark()
"""The one there is."""


class Machine:
    """One pickle being read.

    Args:
        stream: Where from, beginning at its present position.
        rules: The admitted names, by module and name (not joined, so that dots cannot be shifted between them).
        persistent: What a persistent id stands for; None: there may be none.
        inside: What to add to positions in errors, such as " in a nested storage".
        budget: What is left to a pickle inside another; None: this is the outer one.
    """

    def __init__(
        self,
        stream: Stream,
        rules: Rules,
        persistent: Callable[[Any], Any] | None = None,
        inside: str = "",
        budget: Budget | None = None,
    ) -> None:
        self.stream, self.rules, self.persistent, self.inside = stream, rules, persistent, inside
        self.budget = budget or Budget(MAX_OPCODES, stream.size())
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.position = 0

    def run(self, steps: Mapping[str, Callable[[Machine, Any], None]]) -> Any:
        """Read up to the STOP opcode.

        Args:
            steps: What each opcode does, given its argument; any other is refused.

        Returns:
            Plain values, `Inert`s, `Global`s and what the rules make.

        Raises:
            ImportRefusedError: Something is asked for that is not admitted; the error names it and its position.
            CheckpointImportError: The file is damaged.
        """
        try:
            for opcode, argument, position in pickletools.genops(self.stream):  # type: ignore[arg-type]
                self.position = position or 0
                self.budget.instructions -= 1
                if self.budget.instructions < 0:
                    raise self.refused("The file has more instructions than any checkpoint.")
                if opcode.name == "STOP":
                    return self.pop()
                step = steps.get(opcode.name)
                if step is None:
                    raise self.refused(
                        f"The file uses the pickle instruction {opcode.name}, which no checkpoint needs."
                    )
                step(self, argument)
        except CheckpointImportError as error:
            raise self.located(error) from None
        except RecursionError:
            raise self.refused("The file is nested too deeply.") from None
        except MemoryError:
            raise self.refused("The file asks for more memory than there is.") from None
        except Exception as error:  # damaged in any of a hundred ways: all say the same to the user
            raise CheckpointImportError(
                f"The file is damaged, or is no pickle ({type(error).__name__}).",
                where=self.place(),
                fix="download it again and compare its size or hash with the publisher's",
            ) from error
        raise CheckpointImportError("The file ends before its pickle does.", where=self.place())

    # For the steps. ----------------------------------------------------------------------------------------------

    def place(self) -> str:
        """The present position, for people."""
        return f"byte {self.position}{self.inside}"

    def refused(self, what: str, fix: str | None = None) -> ImportRefusedError:
        """An error at the present position."""
        return ImportRefusedError(
            f"{what} Nothing in the file was run.",
            where=self.place(),
            fix=fix or "do not open this file with other programs either, unless you trust its author fully",
        )

    def located(self, error: CheckpointImportError) -> CheckpointImportError:
        """The error, with a position if it had none."""
        if error.where is not None:
            return error
        if isinstance(error, ImportRefusedError) and "Nothing in the file was run" not in error.what:
            return self.refused(error.what, error.fix)
        return type(error)(error.what, where=self.place(), fix=error.fix)

    def push(self, value: Any) -> None:
        """Put on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take from the stack."""
        value = self.stack.pop()
        if value is MARK:
            raise CheckpointImportError("The file is damaged: a value is missing.")
        return value

    def pop_group(self) -> list[Any]:
        """Take everything above the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is MARK:
                group = self.stack[at + 1 :]
                del self.stack[at:]
                return group
        raise CheckpointImportError("The file is damaged: a mark is missing.")

    def top(self, kind: type[Any], what: str) -> Any:
        """The topmost value, which must be of exactly this kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise self.refused(f"The file {what} something that is no {kind.__name__}.")
        return self.stack[-1]

    def key(self, value: Any) -> Any:
        """A value that may be a key: quick to hash, and of a hash that a file cannot choose for many at once.

        Tuples and large integers are neither, and hashing nested tuples can exhaust the stack of C.
        """
        if type(value) in _KEY_TYPES or (type(value) is int and value.bit_length() <= 64):
            return value
        raise self.refused(f"A {type(value).__name__} is used as a key.")

    def find(self, module: Any, name: Any) -> Global:
        """An admitted name."""
        if type(module) is not str or type(name) is not str:
            raise self.refused("A name in the file is no text.")
        if (module, name) not in self.rules:
            raise _unknown(self, Global(module, name))
        return Global(module, name)

    def call(self, callee: Any, arguments: tuple[Any, ...], *, new: bool) -> Any:
        """Call the rule for an admitted name; `new`: as a class."""
        if type(callee) is not Global:
            raise self.refused(f"The file calls a {type(callee).__name__}, which is data.")
        rule = self.rules[callee.module, callee.name]
        if rule.call is None:
            raise self.refused(f"The file calls {callee}, which is admitted as data only.")
        if new and not rule.new:
            raise self.refused(f"The file makes an object of {callee}, which is admitted as a function only.")
        self.budget.spend(arguments)
        return rule.call(*arguments, self.budget) if rule.nested else rule.call(*arguments)


def _unknown(machine: Machine, name: Global) -> ImportRefusedError:
    shown = ascii(str(name))[1:201].removesuffix("'")
    if name.module.startswith("dnnlib.tflib"):
        return machine.refused(
            f"This is a pickle of the old TensorFlow StyleGAN: it needs {shown}.",
            "convert it once with `legacy.py` of NVIDIA's stylegan3 repository, in an environment you can throw away "
            "(that program runs the pickle), and import the result",
        )
    return machine.refused(f"The file asks for {shown}, which is not among the few names a checkpoint needs.")
