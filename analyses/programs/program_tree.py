"""A search tree over programs of blocks: skip some, run some again, keep the rest.

A node has decided about the blocks before its pointer; the blocks after it are still as they are,
so every node is a whole program. Li et al. 2025 ("Skip a Layer or Loop it?"), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, sqrt
from random import Random

Program = tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """Which programs there are, and how they are sought."""

    n_blocks: int
    most: int = 4
    """Blocks that one decision is about, and how often they may run."""
    skip: bool = True
    repeat: bool = True
    longest: int = 0
    """Of a program, in blocks."""
    exploration: float = sqrt(2)
    length_weight: float = 5.0
    """Lambda: how much a program as long as the model loses against one of no length."""
    random_child: float = 0.1
    """How often a child that was never tried is taken, instead of the best one."""

    def times(self) -> list[int]:
        """How often a segment may run: 0 skips it, 1 keeps it."""
        return [0] * self.skip + [1] + [*range(2, self.most + 1)] * self.repeat


@dataclass(eq=False)
class Node:
    """A decision for every block before `pointer`."""

    done: Program
    """What the decided blocks have become."""
    pointer: int
    parent: Node | None
    untried: list[tuple[int, int]] = field(default_factory=list)
    """Decisions (blocks, times) that have no child yet."""
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    reward: float = 0.0
    closed: bool = False
    """Whether all programs below are known."""

    def program(self, n_blocks: int) -> Program:
        """The whole program: what is decided, and the rest as it is."""
        return (*self.done, *range(self.pointer, n_blocks))


class Tree:
    """Monte Carlo tree search for one prompt; it proposes programs and is told how they did.

    ``UCB = reward / visits + c sqrt(ln V / visits) - lambda * length / L``.
    """

    def __init__(self, rules: Rules, seed: str) -> None:
        self.rules = rules
        self.random = Random(seed)
        self.known: dict[Program, float] = {}
        """Program -> reward, of those that were run."""
        self.waiting: dict[Program, list[Node]] = {}
        """Programs that were proposed, and the nodes that wait for their reward."""
        self._states: set[tuple[Program, int]] = set()
        self.root = self._node((), 0, None)
        self._wait(self.root)

    def propose(self) -> Program | None:
        """A program that was not run yet; None where there is none left.

        What is proposed counts as tried and failed until its reward is told, so that several
        proposals in a row differ.
        """
        while not self.root.closed:
            node = self._descend()
            program = node.program(self.rules.n_blocks)
            if self._wait(node):
                return program
        return None

    def tell(self, program: Program, reward: float) -> None:
        """The reward of a proposed program, 0 to 1."""
        self.known[program] = reward
        for node in self.waiting.pop(program, ()):
            self._credit(node, reward)

    def _wait(self, node: Node) -> bool:
        """Whether the node's program is new; one that was run is credited at once."""
        program = node.program(self.rules.n_blocks)
        self._count(node)
        if not program:
            return False
        if program in self.known:
            self._credit(node, self.known[program])
            return False
        new = program not in self.waiting
        self.waiting.setdefault(program, []).append(node)
        return new

    def _node(self, done: Program, pointer: int, parent: Node | None) -> Node:
        self._states.add((done, pointer))
        node = Node(done, pointer, parent)
        left = self.rules.n_blocks - pointer
        for size in range(1, min(self.rules.most, left) + 1):
            node.untried += [(size, times) for times in self.rules.times()]
        self.random.shuffle(node.untried)
        self._close(node)
        return node

    def _descend(self) -> Node:
        """A node that did not exist before, or one that is closed by looking at it."""
        node = self.root
        while True:
            open_children = [child for child in node.children if not child.closed]
            explore = not open_children or self.random.random() < self.rules.random_child
            if node.untried and explore:
                found = self._expand(node)
                if found is not None:
                    return found
            elif open_children:
                node = max(open_children, key=self._bound)
            else:
                self._close(node)
                return node

    def _expand(self, node: Node) -> Node | None:
        """A new child; None where the decision leads to a state that the tree has elsewhere."""
        size, times = node.untried.pop()
        segment = tuple(range(node.pointer, node.pointer + size))
        done, pointer = node.done + segment * times, node.pointer + size
        length = len(done) + self.rules.n_blocks - pointer
        child = None
        if length <= self.rules.longest and (done, pointer) not in self._states:
            child = self._node(done, pointer, node)
            node.children.append(child)
        self._close(node)
        return child

    def _bound(self, node: Node) -> float:
        rules = self.rules
        length = len(node.done) + rules.n_blocks - node.pointer
        wide = rules.exploration * sqrt(log(self.root.visits) / node.visits)
        return node.reward / node.visits + wide - rules.length_weight * length / rules.n_blocks

    def _close(self, node: Node) -> None:
        at: Node | None = node
        while at is not None and not at.untried and all(c.closed for c in at.children):
            at.closed = True
            at = at.parent

    @staticmethod
    def _count(node: Node) -> None:
        at: Node | None = node
        while at is not None:
            at.visits += 1
            at = at.parent

    @staticmethod
    def _credit(node: Node, reward: float) -> None:
        at: Node | None = node
        while at is not None:
            at.reward += reward
            at = at.parent
