"""The formats of herd7: the part of C and of AArch64 that the tests here use."""

import itertools
import re
from dataclasses import dataclass

from checker.threads import OLD, Branch, Fence, Load, ReadModifyWrite, Set, Store, Unsupported



@dataclass
class Test:
    architecture: str
    name: str
    # Locations and their first values.
    memory: dict
    # For each thread, its steps and its first registers.
    threads: list
    quantifier: str
    condition: object


def parse(path, rcpc=False):
    text = re.sub(r"\(\*.*?\*\)", " ", path.read_text(), flags=re.DOTALL)
    if rcpc:
        text = re.sub(r"\bLDAR\b", "LDAPR", text)
    head, text = text.split("{", 1)
    initial, text = text.split("}", 1)
    architecture, name = head.split()[:2]
    found = re.search(r"(~exists|exists|forall)\b(.*)\Z", text, flags=re.DOTALL)
    quantifier, condition = found.groups()
    memory, registers = parse_initial(initial)
    parse_body = {"C": parse_c, "AArch64": parse_aarch64}[architecture]
    threads, locations = parse_body(text[: found.start()], memory, registers)
    for location in [*locations, *(value for value in registers.values() if isinstance(value, str))]:
        memory.setdefault(location, 0)
    return Test(architecture, name, memory, threads, quantifier, Parser(condition).condition())


def parse_initial(text):
    memory, registers = {}, {}
    for item in filter(None, map(str.strip, text.split(";"))):
        place, _, value = map(str.strip, item.partition("="))
        value = int(value) if re.fullmatch(r"-?\d+", value) else value or 0
        if ":" in place:
            thread, _, register = place.partition(":")
            registers[int(thread), register.strip()] = value
        else:
            memory[place.split()[-1].strip("[]*")] = value
    return memory, registers


class Parser:
    """Reads expressions, conditions, and the statements of C."""

    TOKEN = re.compile(r"\s*(\d+|\w+|==|!=|<=|>=|&&|\|\||/\\|\\/|.)", flags=re.DOTALL)
    LEVELS = [("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-")]

    def __init__(self, text):
        self.tokens = [*self.TOKEN.findall(text.strip()), ""]
        self.at = 0
        self.program = []
        self.constants = {}

    def peek(self):
        return self.tokens[self.at]

    def take(self, *expected):
        token = self.tokens[self.at]
        if expected and token not in expected:
            raise Unsupported(f"{token!r} where {expected} should be")
        self.at += 1
        return token

    def accept(self, token):
        if self.peek() == token:
            return self.take()
        return None

    # Conditions: a function of the threads' registers and the memory.

    def condition(self):
        result = self.disjunction()
        self.take("")
        return result

    def disjunction(self):
        parts = [self.conjunction()]
        while self.accept("\\/"):
            parts.append(self.conjunction())
        return lambda *end: any(part(*end) for part in parts)

    def conjunction(self):
        parts = [self.atom()]
        while self.accept("/\\"):
            parts.append(self.atom())
        return lambda *end: all(part(*end) for part in parts)

    def atom(self):
        if self.accept("not") or self.accept("~"):
            inner = self.atom()
            return lambda *end: not inner(*end)
        if self.accept("("):
            inner = self.disjunction()
            self.take(")")
            return inner
        if self.accept("["):
            place, thread = self.take(), None
            self.take("]")
        else:
            place, thread = self.take(), None
            if self.accept(":"):
                place, thread = self.take(), int(place)
        differs = self.take("=", "!=") == "!="
        value = int(self.take())

        def holds(registers, memory):
            found = memory[place] if thread is None else registers[thread].get(place, 0)
            return (found == value) != differs

        return holds

    # C: statements and expressions, which are turned into steps.

    def block(self):
        self.take("{")
        while not self.accept("}"):
            self.statement()

    def statement(self):
        if self.peek() == "{":
            self.block()
        elif self.accept("if"):
            self.take("(")
            condition = self.expression()
            self.take(")")
            skip = Branch(("==", condition, 0), None)
            self.program.append(skip)
            self.statement()
            if self.accept("else"):
                leave = Branch(1, None)
                self.program.append(leave)
                skip.target = len(self.program)
                self.statement()
                leave.target = len(self.program)
            else:
                skip.target = len(self.program)
        else:
            declares = self.accept("int")
            if self.tokens[self.at + 1] == "=":
                register = self.take()
                self.take("=")
                self.program.append(Set(register, self.expression()))
            elif declares:
                self.take()
            else:
                self.expression()
            self.take(";")

    def expression(self, level=0):
        if level == len(self.LEVELS):
            return self.primary()
        left = self.expression(level + 1)
        while self.peek() in self.LEVELS[level]:
            left = (self.take(), left, self.expression(level + 1))
        return left

    def primary(self):
        if self.accept("("):
            inner = self.expression()
            self.take(")")
            return inner
        token = self.take()
        if token.isdigit():
            return int(token)
        if not re.fullmatch(r"[A-Za-z_]\w*", token):
            raise Unsupported(f"{token!r} in an expression")
        return self.call(token) if self.peek() == "(" else token

    def call(self, name):
        self.take("(")
        arguments = []
        while not self.accept(")"):
            arguments.append(self.expression())
            self.accept(",")
        orders = [a[13:] for a in arguments if isinstance(a, str) and a.startswith("memory_order_")]
        if name == "atomic_thread_fence":
            self.program.append(Fence(C_FENCES[orders[0]]))
            return 0
        if "seq_cst" in orders:
            raise Unsupported("a sequentially consistent access")
        read = [frozenset({"acq"} if order in ("acquire", "acq_rel") else ()) for order in orders]
        write = [frozenset({"rel"} if order in ("release", "acq_rel") else ()) for order in orders]
        result = f"${len(self.program)}"
        if name == "atomic_load_explicit":
            self.program.append(Load(result, arguments[0], read[0]))
        elif name == "atomic_store_explicit":
            self.program.append(Store(*arguments[:2], write[0]))
        elif name == "atomic_exchange_explicit":
            self.program.append(ReadModifyWrite(result, *arguments[:2], read[0], write[0]))
        elif name == "atomic_fetch_add_explicit":
            value = ("+", OLD, arguments[1])
            self.program.append(ReadModifyWrite(result, arguments[0], value, read[0], write[0]))
        elif name == "atomic_compare_exchange_strong_explicit":
            # herd7 takes what is expected from a location. It must be one that is there for nothing else.
            address, expected, desired = arguments[:3]
            expected = self.constants[expected]
            change = ReadModifyWrite(result, address, desired, read[0], write[0], expected, read[1])
            self.program.append(change)
            return ("==", result, expected)
        else:
            raise Unsupported(name)
        return result


C_FENCES = {
    "acquire": frozenset({"acq"}),
    "release": frozenset({"rel"}),
    "acq_rel": frozenset({"acq", "rel"}),
    "seq_cst": frozenset({"acq", "rel", "sc"}),
}


def parse_c(text, memory, registers):
    if registers:
        raise Unsupported("initial registers in C")
    threads, locations = [], []
    for body in re.split(r"\bP\d+\s*(?=\()", text)[1:]:
        parameters, _, body = body.partition(")")
        names = [item.split("*")[-1].strip() for item in parameters.strip("( ").split(",") if item.strip()]
        parser = Parser(body)
        parser.constants = {name: memory.get(name, 0) for name in names}
        parser.block()
        parser.take("")
        threads.append((parser.program, {name: name for name in names}))
        locations += names
    return threads, locations


def parse_aarch64(text, memory, registers):
    rows = [row.split("|") for row in text.split(";") if row.strip()]
    columns = list(itertools.zip_longest(*rows[1:], fillvalue=""))
    threads = []
    for number in range(len(rows[0])):
        program, labels = [], {}
        for cell in columns[number] if number < len(columns) else ():
            while ":" in cell:
                label, _, cell = cell.partition(":")
                labels[label.strip()] = len(program)
            if cell.strip():
                program.append(parse_instruction(cell.strip()))
        for op in program:
            if isinstance(op, Branch):
                op.target = labels[op.target]
        first = {register(name): value for (thread, name), value in registers.items() if thread == number}
        threads.append((program, first))
    return threads, []


def register(name):
    name = name.strip().upper()
    if name in ("WZR", "XZR"):
        return 0
    if not re.fullmatch(r"[WX]\d+", name):
        raise Unsupported(f"register {name}")
    return "X" + name[1:]


def parse_instruction(text):
    name, _, rest = text.partition(" ")
    name = name.upper()
    operands = [part.strip() for part in re.findall(r"\[[^]]*\]|[^,]+", rest)]

    def value(operand):
        return int(operand[1:]) if operand.startswith("#") else register(operand)

    def address():
        base, *offset = operands[-1].strip("[]").split(",")
        return ("+", register(base), register(offset[0])) if offset else register(base)

    def tags(acquire, release):
        order = found.group(2) or ""
        return frozenset({"A"} if acquire in order else ()), frozenset({"L"} if release in order else ())

    loads = {"LDR": "", "LDAR": "A", "LDAPR": "Q", "LDXR": "", "LDAXR": "A"}
    stores = {"STR": "", "STLR": "L", "STXR": "", "STLXR": "L"}
    arithmetic = {"ADD": "+", "SUB": "-", "EOR": "^", "AND": "&", "ORR": "|"}
    if name == "MOV":
        return Set(register(operands[0]), value(operands[1]))
    if name in loads:
        return Load(register(operands[0]), address(), frozenset(loads[name]), "X" in name)
    if name in ("STR", "STLR"):
        return Store(address(), register(operands[0]), frozenset(stores[name]))
    if name in stores:
        status, stored = map(register, operands[:2])
        return Store(address(), stored, frozenset(stores[name]), status)
    if name in arithmetic:
        return Set(register(operands[0]), (arithmetic[name], *map(value, operands[1:3])))
    if name == "CMP":
        return Set("$flags", ("!=", *map(value, operands)))
    if name in ("B.NE", "B.EQ"):
        return Branch("$flags" if name == "B.NE" else ("==", "$flags", 0), operands[0])
    if name in ("CBZ", "CBNZ"):
        return Branch(("==" if name == "CBZ" else "!=", register(operands[0]), 0), operands[1])
    if name == "B":
        return Branch(1, operands[0])
    if name in ("DMB", "DSB"):
        kind = {"SY": "full", "ISH": "full", "LD": "ld", "ISHLD": "ld", "ST": "st", "ISHST": "st"}
        return Fence(frozenset({"dmb." + kind[operands[0].upper()]}))
    if name == "ISB":
        return Fence(frozenset({"isb"}))
    found = re.fullmatch(r"(CAS|SWP|LDADD)(A?L?)", name)
    if not found:
        raise Unsupported(text)
    (read, write), (first, second) = tags("A", "L"), map(register, operands[:2])
    both = frozenset({"amo"}) if "AL" in name[3:] and name.endswith("AL") else frozenset()
    if found.group(1) == "CAS":
        return ReadModifyWrite(first, address(), second, read | both, write | both, first, read)
    new = first if found.group(1) == "SWP" else ("+", OLD, first)
    return ReadModifyWrite(second or "$ignored", address(), new, read | both, write | both)
