"""Where two paths of the signal meet: residual blocks (a sum of a path and a longer one from the same place) and gates."""

from dataclasses import replace

from initbench.nn.marks import INPUT, Call, Node, Use, merged

SUMS_WITHOUT_ACTIVATION = 2
"""An output that has been added to others this often no longer counts as going through the activation that follows."""


class Joins:
    """Finds the residual blocks among the uses of one forward pass and numbers them in order of execution."""

    def __init__(self, uses: list[Use]) -> None:
        self._uses = uses
        self._blocks = 0

    def join(self, call: Call) -> Node:
        """The sum of several signals; where one is a residual branch on the others, its uses are marked so."""
        node = self._hopeful(merged(call.nodes))
        if len(call.nodes) != 2 or call.sizes[0] != call.sizes[1]:
            return node
        first, second = call.nodes
        common = first.sources & second.sources
        extra = first.sources & ~common, second.sources & ~common
        short, long = sorted(extra, key=int.bit_count)
        branch = first if extra[0] == long else second
        if not common or not long or not self._is_shortcut(short, long, common):
            return node
        self._number(long, short, branch)
        return replace(node, last=branch.last, path=branch.path)

    def gate(self, call: Call) -> Node:
        """The product of several signals: the largest one is the signal, the others scale it."""
        node = merged(call.nodes)
        most = max(_count(size) for size in call.sizes)
        large = [item for item, size in zip(call.nodes, call.sizes, strict=True) if _count(size) == most]
        return replace(self._hopeful(node), last=frozenset[int]().union(*(item.last for item in large)))

    def _hopeful(self, node: Node) -> Node:
        """Without the pending uses that have found their activation, or have passed two sums without any."""
        pending = {
            use: between
            for use, between in node.pending.items()
            if self._uses[use].activation is None and between.count("add") < SUMS_WITHOUT_ACTIVATION
        }
        return replace(node, pending=pending)

    def _is_shortcut(self, short: int, long: int, common: int) -> bool:
        """Nothing on the skip path, or one use that starts where a longer branch starts; weights that recur are no residual."""
        if not short:
            return True
        if short.bit_count() > 1 or long.bit_count() < 2:
            return False
        skip, branch = self._in(short), self._in(long)
        names = [use.view.name for use in (*skip, *branch)]
        starts = any(use.entry.sources & ~INPUT == common & ~INPUT for use in branch)
        return len(set(names)) == len(names) and skip[0].entry.sources == common and starts

    def _number(self, long: int, short: int, branch: Node) -> None:
        new = [use for use in self._in(long) if use.block is None]
        if not new:
            return
        for use in new:
            use.block, use.branch, use.end = self._blocks, True, use.index in branch.last
        for use in self._in(short):
            use.block = self._blocks if use.block is None else use.block
        self._blocks += 1

    def _in(self, bits: int) -> list[Use]:
        found = []
        bits &= ~INPUT
        while bits:
            lowest = bits & -bits
            found.append(self._uses[lowest.bit_length() - 2])
            bits ^= lowest
        return found


def _count(size: tuple[int, ...]) -> int:
    count = 1
    for length in size:
        count *= length
    return count
