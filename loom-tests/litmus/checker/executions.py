"""Candidate executions: a run of each thread, what each load reads, the order of stores. And the verdict."""

import itertools

from checker.relations import Rel
from checker.threads import Branch, Event, ReadModifyWrite, Store, Unsupported, runs



class Execution:
    """Events, and the relations between them that a run of each thread gives."""

    def __init__(self, test, chosen):
        self.events = [Event(-1, "W", name, value) for name, value in test.memory.items()]
        self.registers = [registers for _, registers in chosen]
        self.first = [len(self.events)]
        for events, _ in chosen:
            self.events += events
            self.first.append(len(self.events))
        self.size = len(self.events)
        events = self.events
        self.po = self.where(lambda a, b: a.thread == b.thread >= 0, lambda i, j: i < j)
        self.initial = self.where(lambda a, b: a.thread < 0 <= b.thread)
        self.same = self.where(lambda a, b: a.location is not None and a.location == b.location)
        self.external = self.where(lambda a, b: a.thread != b.thread)
        self.addr = self.depends(lambda event: event.address)
        self.data = self.depends(lambda event: event.data)
        self.ctrl = self.depends(lambda event: event.control)
        self.rmw = self.depends(lambda event: () if event.reads is None else (event.reads,))
        self.reads = [i for i, event in enumerate(events) if event.kind == "R"]
        self.rf = self.co = self.fr = None

    def where(self, events, order=lambda i, j: True):
        found = self.events
        return Rel.where(self.size, lambda i, j: events(found[i], found[j]) and order(i, j))

    def depends(self, sources):
        rows = [0] * self.size
        for i, event in enumerate(self.events):
            for source in sources(event):
                rows[self.first[event.thread] + source] |= 1 << i
        return Rel(rows)

    def which(self, kind=None, tag=None):
        """The identity on these events."""
        return Rel([
            1 << i if kind in (None, event.kind) and (tag is None or tag in event.tags) else 0
            for i, event in enumerate(self.events)
        ])  # fmt: skip

    def candidates(self):
        """Sets `rf`, `co` and `fr` in every way, and gives the memory at the end."""
        events = self.events
        writes = {}
        for i, event in enumerate(events):
            if event.kind == "W":
                writes.setdefault(event.location, []).append(i)
        sources = [
            [w for w in writes[events[r].location] if events[w].value == events[r].value] for r in self.reads
        ]
        orders = [
            [(first, *rest) for rest in itertools.permutations(others)] for first, *others in writes.values()
        ]
        for read_from in itertools.product(*sources):
            rows = [0] * self.size
            for read, write in zip(self.reads, read_from):
                rows[write] |= 1 << read
            self.rf = Rel(rows)
            for order in itertools.product(*orders):
                rows = [0] * self.size
                for stores in order:
                    after = 0
                    for store in reversed(stores):
                        rows[store] = after
                        after |= 1 << store
                self.co = Rel(rows)
                self.fr = self.rf.inverse() >> self.co
                yield {location: events[stores[-1]].value for location, stores in zip(writes, order)}

    def __str__(self):
        lines = [f"      {i:2} {event}" for i, event in enumerate(self.events)]
        for name in ("rf", "co"):
            rows = getattr(self, name).rows
            pairs = [f"{i}->{j}" for i, row in enumerate(rows) for j in range(self.size) if row >> j & 1]
            lines.append(f"      {name}: {' '.join(pairs)}")
        return "\n".join(lines)


def constants(value):
    """All numbers in a step or an expression."""
    if isinstance(value, int):
        return {value}
    if isinstance(value, Branch):
        value = (value.condition,)
    parts = value if isinstance(value, tuple) else getattr(value, "__dict__", {}).values()
    return set().union(*map(constants, parts))


def domains_of(test):
    """What each location may ever hold. A few values more do no harm, and out of thin air they are needed."""
    literals = set().union(*(constants(op) for program, _ in test.threads for op in program))
    domains = {location: {value} | literals for location, value in test.memory.items()}
    writers = sum(isinstance(op, (Store, ReadModifyWrite)) for program, _ in test.threads for op in program)
    for _ in range(writers + 1):
        before = sum(map(len, domains.values()))
        for number, (program, registers) in enumerate(test.threads):
            for events, _ in runs(number, program, registers, {k: sorted(v) for k, v in domains.items()}):
                for event in events:
                    if event.kind == "W":
                        domains[event.location].add(event.value)
        if sum(map(len, domains.values())) == before:
            break
    return {location: sorted(values) for location, values in domains.items()}


def decide(test, model, explain=False):
    """Never, Sometimes or Always."""
    domains = domains_of(test)
    every = [runs(number, *thread, domains) for number, thread in enumerate(test.threads)]
    seen = {True: False, False: False}
    for chosen in itertools.product(*every):
        events = [event for events, _ in chosen for event in events]
        written = {(e.location, e.value) for e in events if e.kind == "W"} | set(test.memory.items())
        if any(e.kind == "R" and (e.location, e.value) not in written for e in events):
            continue
        execution = Execution(test, chosen)
        for memory in execution.candidates():
            holds = test.condition(execution.registers, memory)
            if not seen[holds] and model(execution):
                seen[holds] = True
                if explain and holds != (test.quantifier == "forall"):
                    print(execution)
        if all(seen.values()):
            return "Sometimes"
    if not any(seen.values()):
        raise Unsupported("no execution at all")
    return "Always" if seen[True] else "Never"
