"""Relations between events, which are numbered: row i has bit j set if i is related to j."""


class Rel:
    def __init__(self, rows):
        self.rows = rows

    @staticmethod
    def empty(size):
        return Rel([0] * size)

    @staticmethod
    def where(size, related):
        return Rel([sum(1 << j for j in range(size) if related(i, j)) for i in range(size)])

    def __or__(self, other):
        return Rel([a | b for a, b in zip(self.rows, other.rows)])

    def __and__(self, other):
        return Rel([a & b for a, b in zip(self.rows, other.rows)])

    def __sub__(self, other):
        return Rel([a & ~b for a, b in zip(self.rows, other.rows)])

    def __rshift__(self, other):
        """First this, then the other."""
        rows = []
        for row in self.rows:
            image = 0
            while row:
                lowest = row & -row
                image |= other.rows[lowest.bit_length() - 1]
                row ^= lowest
            rows.append(image)
        return Rel(rows)

    def inverse(self):
        size = range(len(self.rows))
        return Rel([sum(1 << i for i in size if self.rows[i] >> j & 1) for j in size])

    def plus(self):
        rows = list(self.rows)
        for k in range(len(rows)):
            for i, row in enumerate(rows):
                if row >> k & 1:
                    rows[i] = row | rows[k]
        return Rel(rows)

    def maybe(self):
        return Rel([row | 1 << i for i, row in enumerate(self.rows)])

    def star(self):
        return self.plus().maybe()

    def is_empty(self):
        return not any(self.rows)

    def is_irreflexive(self):
        return not any(row >> i & 1 for i, row in enumerate(self.rows))

    def is_acyclic(self):
        return self.plus().is_irreflexive()
