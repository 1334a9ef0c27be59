"""Threads: all runs of one by itself, each an order of events, with what they depend on.

Both formats come down to the steps below. An expression is an int, the name of a register, or (operator,
left, right). A register holds an int or the name of a location.
"""

import operator
from dataclasses import dataclass, field, replace

LONGEST_RUN = 200


class Unsupported(Exception):
    """Something in a test that this checker does not know."""



@dataclass
class Set:
    register: str
    value: object


@dataclass
class Load:
    register: str
    address: object
    tags: frozenset
    exclusive: bool = False


@dataclass
class Store:
    address: object
    value: object
    tags: frozenset
    # The register of an exclusive store's outcome.
    status: str = None


@dataclass
class ReadModifyWrite:
    # Gets the old value.
    register: str
    address: object
    # May name the register `OLD`.
    value: object
    read_tags: frozenset
    write_tags: frozenset
    # What the old value has to be, if not anything; and the tags of the read if it is another.
    expected: object = None
    failed_tags: frozenset = frozenset()


@dataclass
class Fence:
    tags: frozenset


@dataclass
class Branch:
    """To `target`, a label or the index of a step, unless `condition` is 0."""

    condition: object
    target: object


OLD = "$old"
OPERATORS = {
    "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b), "+": operator.add, "-": operator.sub,
    "^": operator.xor, "&": operator.and_, "|": operator.or_, "<": lambda a, b: int(a < b),
    ">": lambda a, b: int(a > b), "<=": lambda a, b: int(a <= b), ">=": lambda a, b: int(a >= b),
    "&&": lambda a, b: int(bool(a) and bool(b)), "||": lambda a, b: int(bool(a) or bool(b)),
}  # fmt: skip


@dataclass(frozen=True)
class Event:
    thread: int
    kind: str
    location: str = None
    value: int = None
    tags: frozenset = frozenset()
    # Indices, within the thread, of the loads on which its address, its value, or its being there depends.
    address: frozenset = frozenset()
    data: frozenset = frozenset()
    control: frozenset = frozenset()
    # For a store that is half of a read-modify-write: the index of its load.
    reads: int = None

    def __str__(self):
        tags = "".join(f".{tag}" for tag in sorted(self.tags))
        what = f"{self.location}={self.value}" if self.location else ""
        return f"P{self.thread}:{self.kind}{tags} {what}".strip()


@dataclass
class State:
    at: int = 0
    steps: int = 0
    registers: dict = field(default_factory=dict)
    # For each register, the loads that its value depends on.
    taint: dict = field(default_factory=dict)
    control: frozenset = frozenset()
    events: tuple = ()
    monitor: int = None

    def evaluate(self, expression):
        """Its value, and the loads that this depends on."""
        if isinstance(expression, int):
            return expression, frozenset()
        if isinstance(expression, str):
            return self.registers.get(expression, 0), self.taint.get(expression, frozenset())
        name, left, right = expression
        (left, a), (right, b) = self.evaluate(left), self.evaluate(right)
        if name == "+" and isinstance(left, str) and right == 0:
            return left, a | b
        return OPERATORS[name](left, right), a | b

    def after(self, register=None, value=None, taint=frozenset(), events=(), **changes):
        """The state one step on."""
        changes = {"at": self.at + 1, **changes}
        new = replace(self, steps=self.steps + 1, events=self.events + tuple(events), **changes)
        if register is not None:
            new.registers = {**self.registers, register: value}
            new.taint = {**self.taint, register: taint}
        return new


def runs(number, program, registers, domains):
    """All runs of a thread, if each load may read any value of `domains`: their events and last registers."""
    done, pending = [], [State(registers=registers)]
    while pending:
        state = pending.pop()
        if state.at >= len(program):
            done.append((state.events, state.registers))
        elif state.steps < LONGEST_RUN:
            pending.extend(step(number, program[state.at], state, domains))
    return done


def step(number, op, state, domains):
    """Every state that `op` can lead to."""
    here = len(state.events)

    def event(kind, **more):
        return Event(number, kind, control=state.control, **more)

    if isinstance(op, Set):
        value, taint = state.evaluate(op.value)
        yield state.after(op.register, value, taint)
    elif isinstance(op, Fence):
        yield state.after(events=[event("F", tags=op.tags)])
    elif isinstance(op, Branch):
        value, taint = state.evaluate(op.condition)
        control = state.control | taint
        yield state.after(control=control, **({"at": op.target} if value else {}))
    elif isinstance(op, Load):
        location, address = state.evaluate(op.address)
        for value in domains[location]:
            load = event("R", location=location, value=value, tags=op.tags, address=address)
            monitor = here if op.exclusive else state.monitor
            yield state.after(op.register, value, frozenset([here]), [load], monitor=monitor)
    elif isinstance(op, Store):
        (location, address), (value, data) = state.evaluate(op.address), state.evaluate(op.value)
        store = event("W", location=location, value=value, tags=op.tags, address=address, data=data)
        if op.status is None:
            yield state.after(events=[store])
            return
        yield state.after(op.status, 1, monitor=None)
        if state.monitor is not None and state.events[state.monitor].location == location:
            yield state.after(op.status, 0, events=[replace(store, reads=state.monitor)], monitor=None)
    elif isinstance(op, ReadModifyWrite):
        location, address = state.evaluate(op.address)
        expected = None if op.expected is None else state.evaluate(op.expected)[0]
        for old in domains[location]:
            lost = expected is not None and old != expected
            tags = op.failed_tags if lost else op.read_tags
            load = event("R", location=location, value=old, tags=tags, address=address)
            events = [load]
            if not lost:
                read = state.after(OLD, old, frozenset([here]))
                value, data = read.evaluate(op.value)
                store = event("W", location=location, value=value, tags=op.write_tags, address=address)
                events.append(replace(store, data=data - {here}, reads=here))
            yield state.after(op.register, old, frozenset([here]), events)
