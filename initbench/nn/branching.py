"""Where residual branches are in a trace: found as two signals are added, of which one goes round what the other goes through."""

from initbench.nn import operations as ops
from initbench.nn.graph import INPUT, Ends, Kind, Node, Use


class Branches:
    """Marks the uses of each branch as its sum is traced; `uses` are those of the trace, which grow."""

    def __init__(self, uses: list[Use]) -> None:
        self._uses = uses
        self._sums: list[tuple[Node, Node | None, int]] = []

    def ends(self, modules: list[tuple[str, Node, Node]]) -> tuple[Ends, ...]:
        """The modules at the ends of each branch, of those that made (name, node of the first argument, node of the result)."""
        made_by = {after.index: name for name, _, after in reversed(modules)}
        return tuple(
            Ends(
                added=next((name for name, _, after in modules if after is branch), None),
                around=next((name for name, before, after in modules if before is skip and after.index == total), None),
                norms=tuple(made_by[index] for index in self._norms(branch, number) if index in made_by),
                held=self._is_held(skip),
            )
            for number, (branch, skip, total) in enumerate(self._sums)
        )

    def _norms(self, branch: Node, number: int) -> list[int]:
        """The nodes that normalize what the last uses of a branch give, in order of execution."""
        ends = {use.index for use in self._uses if use.end and use.block == number}
        seen, waiting = dict[int, Node](), [branch]
        while waiting:
            node = waiting.pop()
            if node.kind is not Kind.WEIGHT and node.index not in seen and node.origin.last & ends:
                seen[node.index] = node
                waiting += node.inputs
        return sorted(index for index, node in seen.items() if node.name in ops.NORMALIZATIONS)

    def _is_held(self, skip: Node | None) -> bool:
        """Whether a norm, one that users write themselves among them, stands between the last sum and this one."""
        totals = {total for _, _, total in self._sums}
        while skip is not None and skip.index not in totals and skip.kind is not Kind.WEIGHT:
            made_by = {step.name for step in skip.steps} | {skip.name}
            if made_by & ops.NORMALIZATIONS or any("sqrt" in each.name for each in skip.inputs):
                return True
            signals = [each for each in skip.inputs if each.kind is not Kind.WEIGHT]
            skip = signals[0] if len(signals) == 1 else None
        return False

    def of_sum(self, nodes: tuple[Node, ...], total: int) -> Node | None:
        """Of two signals that are added the one that is a residual branch on the other; its uses are marked so.

        `total` is the index that their sum will have.
        """
        if len(nodes) != 2 or nodes[0].shape != nodes[1].shape:
            return None
        first, second = nodes
        common = first.origin.sources & second.origin.sources
        extra = first.origin.sources & ~common, second.origin.sources & ~common
        short, long = sorted(extra, key=int.bit_count)
        if common and all(extra) and (beside := self._beside(first, second, common)):
            branch, skip = beside
            short, long = 0, branch.origin.sources & ~common
        elif not common or not long or not self._is_shortcut(short, long, common):
            return None
        else:
            branch, skip = (first, second) if extra[0] == long else (second, first)
        within = {use.index for use in self._uses_in(long) if use.origin.sources & common == common}
        if self._mark(branch, skip, total, self._uses_in(long), within):
            for use in self._uses_in(short):
                use.block = len(self._sums) - 1 if use.block is None else use.block
        return branch

    def _beside(self, first: Node, second: Node, common: int) -> tuple[Node, Node] | None:
        """A branch that begins where the ones before it did, and their sum, as in (x + attention(x)) + mlp(x); in this order."""
        skip_of = {total: skip for _, skip, total in self._sums}
        for branch, total in ((first, second), (second, first)):
            skip = skip_of.get(total.index)
            while skip is not None and skip.origin.sources != common:
                skip = skip_of.get(skip.index)
            if skip is not None:
                return branch, total
        return None

    def of_learned(self, branch: Node, names: set[str], total: int) -> None:
        """Marks the uses of a branch whose skip path is one of these parameters: learned queries plus what was made of them."""
        uses = self._uses_in(branch.origin.sources)
        starts = sum(1 << (use.index + 1) for use in uses if use.learned in names)
        if starts:
            self._mark(branch, None, total, uses, {use.index for use in uses if use.learned in names or use.origin.sources & starts})

    def _mark(self, branch: Node, skip: Node | None, total: int, uses: list[Use], within: set[int]) -> bool:
        """Marks those of the uses that are in no block yet and within the branch, or feed it from elsewhere (the keys of a memory).

        Of what is made without the model's input (the biases of an attention, by a network of their own) that is all that made it.
        """
        feeding = set[int]().union(*(self._uses[index].origin.last for index in within), branch.origin.last)
        made = [self._uses[index].origin.sources for index in feeding]
        feeding |= {use.index for sources in made if not sources & INPUT for use in self._uses_in(sources)}
        new = [use for use in uses if use.block is None and use.index in within | feeding]
        last = [use for use in new if use.index in branch.origin.last]
        ends = [use for use in last if use.activation is None or use.activation.name not in ops.GATES] or last
        for use in new:
            use.block, use.branch, use.end = len(self._sums), True, use in ends
        if new:
            self._sums.append((branch, skip, total))
        return bool(new)

    def _is_shortcut(self, short: int, long: int, common: int) -> bool:
        """Nothing on the skip path, or one use that starts where a longer branch starts; weights that recur are no residual."""
        if not short:
            return True
        if short.bit_count() > 1 or long.bit_count() < 2:
            return False
        skip, branch = self._uses_in(short), self._uses_in(long)
        names = [use.weight.name for use in (*skip, *branch)]
        starts = any(use.origin.sources & ~INPUT == common & ~INPUT for use in branch)
        return len(set(names)) == len(names) and skip[0].origin.sources == common and starts

    def _uses_in(self, sources: int) -> list[Use]:
        uses, rest = [], sources & ~INPUT
        while rest:
            uses.append(self._uses[(rest & -rest).bit_length() - 2])
            rest &= rest - 1
        return uses
