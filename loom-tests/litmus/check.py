#!/usr/bin/env python3
"""Decides the litmus tests in this directory: no more than the standard library, no herd7.

    check.py                all tests that verdicts.txt lists; fails if a verdict is another than expected
    check.py -v FILE ...    these files: their verdicts, and an execution that shows the outcome

A test is a few short threads and a condition on what they end with. The checker runs each thread with every
value that each of its loads could read, then joins the runs in every way: which store each load reads from
(`rf`), and in which order the stores to one location take effect (`co`). Each candidate is judged by the
axioms of a memory model. The condition can hold *Never*, *Sometimes* or *Always*.

The models, each from its published definition:

C11           Lahav, Vafeiadis, Kang, Hur and Dreyer, "Repairing sequential consistency in C/C++11", PLDI
              2017, with the release sequences of C++20, which are Rust's, and without the axiom that forbids
              values out of thin air: the language does not have it, and compilers do not keep to it.
RC11          The same with that axiom.
AArch64       Pulte, Flur, Deacon, French, Sarkar and Sewell, "Simplifying ARM concurrency", POPL 2018, and
              the "external visibility requirement" of the Arm Architecture Reference Manual.
AArch64+rcpc  The same, with each LDAR replaced by the weaker LDAPR, which compilers use where it exists.

Sequentially consistent accesses (fences there are), plain accesses of C, and mixed sizes are not supported.
"""

import sys
import time
from pathlib import Path

from checker.executions import decide
from checker.formats import parse
from checker.models import MODELS

HERE = Path(__file__).resolve().parent
VERDICTS = HERE / "verdicts.txt"


def verdicts(path, explain=False):
    """The verdict of each model for the test in a file."""
    architecture = path.read_text().split()[0]
    for name, (model, rcpc) in MODELS[architecture].items():
        if explain:
            print(f"    {name}:")
        yield name, decide(parse(path, rcpc), model, explain)


def expectations():
    """What verdicts.txt says: for each test, its models and verdicts."""
    expected = {}
    for line in VERDICTS.read_text().splitlines():
        test, *rest = line.partition("#")[0].split() or [None]
        if test:
            expected[test] = dict(item.split("=") for item in rest)
    return expected


def check_all():
    expected = expectations()
    found = {str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("**/*.litmus")}
    failures = [f"{name}: there is no such file" for name in sorted(expected.keys() - found)]
    failures += [f"{name}: not in {VERDICTS.name}" for name in sorted(found - expected.keys())]
    print(f"{'test':<44} {'model':<13} {'verdict':<10} expected")
    for name in filter(found.__contains__, expected):
        path = HERE / f"{name}.litmus"
        if parse(path).name != path.stem:
            failures.append(f"{name}: the file has another name than the test")
        for model, verdict in verdicts(path):
            wanted = expected[name].get(model, "nothing")
            print(f"{name:<44} {model:<13} {verdict:<10} {wanted}{'' if verdict == wanted else '   <---'}")
            if verdict != wanted:
                failures.append(f"{name}: {model} says {verdict}, not {wanted}")
    print(f"{len(expected)} tests, {len(failures)} failures, {time.process_time():.0f} s")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def main(arguments):
    if not arguments:
        return check_all()
    explain = "-v" in arguments
    for name in arguments:
        if name != "-v":
            print(name)
            for model, verdict in verdicts(Path(name), explain):
                print(f"    {model:<13} {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
