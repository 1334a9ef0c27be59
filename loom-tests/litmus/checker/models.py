"""The memory models. Each says whether an execution is allowed.

`[X]` of the definitions is `x.which(...)` here, `;` is `>>`, and internal (external) is within one thread
(between two). check.py says where the definitions are from.
"""


def c11(x, thin_air=True):
    write, fence = x.which("W"), x.which("F")
    sb = x.po | x.initial
    eco = (x.rf | x.co | x.fr).plus()
    sequence = write >> (x.rf >> x.rmw).star()
    release = x.which(tag="rel") >> (fence >> sb).maybe() >> sequence
    acquire = x.which("R") >> (sb >> fence).maybe() >> x.which(tag="acq")
    # A fence before a store, or after a load, is an end by itself; otherwise the access is.
    synchronises = release >> x.rf >> acquire
    hb = (sb | synchronises).plus()
    coherence = (hb >> eco.maybe()).is_irreflexive()
    atomicity = (x.rmw & (x.fr >> x.co)).is_empty()
    sc = x.which("F", "sc")
    sequential = (sc >> (hb | hb >> eco >> hb) >> sc).is_acyclic()
    return coherence and atomicity and sequential and (thin_air or (x.po | x.rf).is_acyclic())


def rc11(x):
    return c11(x, thin_air=False)


def aarch64(x):
    read, write = x.which("R"), x.which("W")
    acquire, release = x.which("R", "A"), x.which("W", "L")
    full, load, store = (x.which("F", "dmb." + kind) for kind in ("full", "ld", "st"))
    isb, at_once = x.which("F", "isb"), x.which("R", "Q") | acquire
    po, rfi, coi = x.po, x.rf - x.external, x.co - x.external
    atomic = x.which("R", "amo") >> x.rmw >> x.which("W", "amo")
    if not (po & x.same | x.fr | x.co | x.rf).is_acyclic():
        return False
    if not (x.rmw & ((x.fr & x.external) >> (x.co & x.external))).is_empty():
        return False
    observed = (x.rf | x.co | x.fr) & x.external
    dependency = (
        x.addr | x.data | x.ctrl >> write
        | (x.ctrl | x.addr >> po) >> isb >> po >> read
        | x.addr >> po >> write
        | (x.addr | x.data) >> rfi
        | (x.ctrl | x.data) >> coi
    )  # fmt: skip
    by_atomics = x.rmw | x.rmw.inverse() >> x.rmw >> rfi >> at_once
    barrier = (
        po >> full >> po
        | po >> atomic >> po
        | release >> po >> acquire
        | read >> po >> load >> po
        | at_once >> po
        | write >> po >> store >> po >> write
        | po >> release
        | po >> release >> coi
    )  # fmt: skip
    return (observed | dependency | by_atomics | barrier).is_acyclic()


MODELS = {
    "C": {"C11": (c11, False), "RC11": (rc11, False)},
    "AArch64": {"AArch64": (aarch64, False), "AArch64+rcpc": (aarch64, True)},
}
