"""Copies: modules that a composition would otherwise use several times, grouped before the search.

A search spreads a module's weight over all its copies, and the sum of many noisy copies fits the few
examples better than the task. Three kinds of modules count as copies:

equal: the same tensors and the same scaling.
weights: the size of the deltas' cosine is at least SIMILAR_WEIGHTS. A delta that points the opposite way
    counts too: a search gives the one the negative weight of the other.
examples: on these examples, the two modules change the logits of the label tokens in the same direction.

Equal and similar weights are grouped before any module is scored. Of the groups that the selectors
choose, those that the examples cannot tell apart are grouped too. The most central module of a group
represents it: the one whose delta is most similar to the deltas of all modules related to it. Of equally
central ones, such as two copies of each other, it is the one with the lowest loss alone. The lowest loss
alone would often be that of the noisiest copy, which fits the few examples by chance.

docs/decisions/0023 has the measurements. Letters of shapes: N modules, n examples, T label tokens.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composer.core.methods.base import single_modules
from composer.core.model.scorer import FewShotScorer
from composer.core.modules.module_stack import ModuleStack
from composer.core.selection.similarity import delta_similarity

# Cosine of two deltas. Different modules of the demo library reach 0.48, and 0.48 is a module of two skills
# beside one of them. A module with noise of 30 % in each factor has 0.94 to 0.98 with itself without noise.
SIMILAR_WEIGHTS = 0.9
RELATED = 0.5  # cosine of two deltas above that of any two different modules of the demo library
# Cosine of two changes of the logits at the label tokens. On five examples of each of the demo world's 22
# tasks, no two of its different modules reach 0.88. A module with noise of 60 % in each factor has at least
# 0.92 with itself in 96 % of all cases, and with noise of 100 % in 91 %.
SAME_RESPONSE = 0.92
FEWEST_LABEL_TOKENS = 4  # with fewer, different modules can agree by chance
SMALLEST_RESPONSE = 1e-2  # root mean square of the changes of the logits; less may be rounding
RESPONSE_SIZE = 4096  # numbers that stand for one module's changes of the logits, about
RESPONSE_WIDTH_MAX = 256  # of these for one label token
SKETCH_SIZE = 4096  # numbers that stand for one module's deltas, about; their cosine is off by some 0.03
SKETCH_MARGIN = 0.15  # below SIMILAR_WEIGHTS; pairs with a higher cosine of sketches are compared exactly

Losses = Callable[[Sequence[int]], Sequence[float]]


@dataclass(frozen=True)
class Copy:
    """A module that another one represents.

    Attributes:
        index: of the copy in the stack.
        reason: "equal", "weights" or "examples".
        similarity: the cosine to the representative: of the deltas, or, for "examples", of the changes of the
            logits; negative where the deltas point in opposite directions. A copy of a module that was itself
            grouped by the examples has that module's.
    """

    index: int
    reason: str
    similarity: float


CopiesOf = Mapping[int, tuple[Copy, ...]]  # by the index of the representative


class CopyGroups:
    """The groups of N modules; the groups by weights are found once, those by examples when asked for."""

    def __init__(self, scorer: FewShotScorer, stack: ModuleStack, identities: Sequence[Hashable]) -> None:
        """Group the modules by their weights.

        Args:
            scorer: of the n examples; what is scored here counts there.
            stack: N modules.
            identities: N values that are equal for modules with equal tensors, scaling and template.
        """
        self._stack, self._identities = stack, identities
        self._responses = Responses(scorer, stack)
        distinct = list({identity: i for i, identity in reversed(list(enumerate(identities)))}.values())
        cosines = sketch_cosines(stack)
        groups = group_by_weights(stack, identities, cosines)
        self.by_weights = {group[0]: group for group in groups}
        self._centrality = centrality(cosines, distinct)

    @property
    def leaders(self) -> list[int]:
        """Return the first module of each group by weights, in ascending order."""
        return sorted(self.by_weights)

    def represent(
        self,
        select: Callable[[Sequence[int]], Sequence[int]],
        losses: Losses,
        numbers: Sequence[int],
        *,
        refill: bool = True,
    ) -> CopiesOf:
        """Select modules, each standing for its group, and return them with their copies.

        Only the first module of each group by weights can be selected. If some of those selected turn out to
        be copies by the examples, the selection is repeated without them, so that as many different modules
        are left as were asked for.

        Args:
            select: returns those of these indices that are chosen.
            losses: the few-shot loss of each of these modules alone, on the examples `numbers`.
            numbers: of the examples that may be read.
            refill: whether the selection may be repeated.
        """
        candidates, absorbed = self.leaders, set[int]()
        while True:
            chosen = select([leader for leader in candidates if leader not in absorbed])
            found = self._merged([*chosen, *sorted(absorbed)], losses, numbers)
            new = set(chosen) - self._leaders_of(found)
            if not new or not refill:
                return found
            absorbed |= new

    def _leaders_of(self, found: CopiesOf) -> set[int]:
        """Return the first modules of the groups whose representatives are the keys of `found`."""
        return {leader for leader, group in self.by_weights.items() if not found.keys().isdisjoint(group)}

    def _merged(self, leaders: Sequence[int], losses: Losses, numbers: Sequence[int]) -> CopiesOf:
        """Return the groups of these leaders, merged where the examples cannot tell two of them apart."""
        central = {leader: self._most_central(self.by_weights[leader]) for leader in leaders}
        scored = [i for members in central.values() for i in members]
        loss = dict(zip(scored, losses(scored), strict=True))

        def place(i: int) -> tuple[float, float, int]:
            return -self._centrality[i], loss[i], i

        own = {min(members, key=place): self.by_weights[leader] for leader, members in central.items()}
        groups = {i: self._copies_by_weights(i, group) for i, group in own.items()}
        order = sorted(groups, key=place)
        merged: dict[int, tuple[Copy, ...]] = {}
        assigned = self._responses.assign(order, numbers)
        for i, (representative, similarity) in zip(order, assigned, strict=True):
            if representative == i:
                merged[i] = groups[i]
            else:
                own_copies = [replace(copy, reason="examples", similarity=similarity) for copy in groups[i]]
                merged[representative] += (Copy(i, "examples", similarity), *own_copies)
        return merged

    def _most_central(self, group: Sequence[int]) -> list[int]:
        """Return the most central modules of a group, one of each identity."""
        distinct = self._distinct(group)
        highest = max(self._centrality[i] for i in distinct)
        return [i for i in distinct if self._centrality[i] == highest]

    def _distinct(self, group: Sequence[int]) -> list[int]:
        """Return the first module of each identity in this group, so that equal modules are scored once."""
        first = {self._identities[i]: i for i in reversed(group)}
        return sorted(first.values())

    def _copies_by_weights(self, representative: int, group: Sequence[int]) -> tuple[Copy, ...]:
        others = [i for i in group if i != representative]
        if not others:
            return ()
        cosines = delta_similarity(self._stack, representative, others)
        equal = [self._identities[i] == self._identities[representative] for i in others]
        return tuple(
            Copy(i, "equal", 1.0) if is_equal else Copy(i, "weights", cosine)
            for i, is_equal, cosine in zip(others, equal, cosines, strict=True)
        )


# --- by weights ---------------------------------------------------------------


def group_by_weights(
    stack: ModuleStack, identities: Sequence[Hashable], estimates: Tensor
) -> list[list[int]]:
    """Return groups of modules whose deltas are like those of the group's first module, or their opposites.

    Every module is compared with the first modules of the groups so far, in the order of the stack. The exact
    cosine is computed only where the estimate is not clearly lower.

    Args:
        stack: N modules.
        identities: N values that are equal for modules with equal tensors, scaling and template.
        estimates: (N, N) of the cosines.
    """
    first: dict[Hashable, int] = {}
    equal: dict[int, list[int]] = {}
    for i, identity in enumerate(identities):
        equal.setdefault(first.setdefault(identity, i), []).append(i)
    distinct = list(equal)
    near = estimates[distinct][:, distinct].abs() >= SIMILAR_WEIGHTS - SKETCH_MARGIN
    groups, is_free = [], torch.ones(len(distinct), dtype=torch.bool)
    for row, leader in enumerate(distinct):
        if not is_free[row]:
            continue
        is_free[row] = False
        rows = (near[row] & is_free).nonzero().flatten().tolist()
        cosines = delta_similarity(stack, leader, [distinct[other] for other in rows]) if rows else []
        taken = [other for other, cosine in zip(rows, cosines, strict=True) if abs(cosine) >= SIMILAR_WEIGHTS]
        is_free[taken] = False
        groups.append(sorted(i for other in (row, *taken) for i in equal[distinct[other]]))
    return groups


def centrality(cosines: Tensor, distinct: Sequence[int]) -> list[float]:
    """Return for each of N modules the sum of the sizes of its cosines with all modules related to it.

    Equal modules count once. The sums are rounded, so that two copies of each other are equally central.

    Args:
        cosines: (N, N) of the deltas.
        distinct: the first module of each identity.
    """
    others = cosines[:, list(distinct)].abs()
    sums = torch.where(others >= RELATED, others, 0.0).sum(1)
    return [round(total, 3) for total in sums.tolist()]


def sketch_cosines(stack: ModuleStack) -> Tensor:
    """Return estimates (N, N) of the cosines of the deltas, from their sketches."""
    sketches = torch.nn.functional.normalize(delta_sketches(stack), dim=-1, eps=1e-30)
    return sketches @ sketches.T


def delta_sketches(stack: ModuleStack) -> Tensor:
    """Return (N, about SKETCH_SIZE): random products PΔWᵢQ (k, k) of every layer, which never make a ΔW.

    In expectation the inner product of two sketches is that of the deltas.

    Source: Johnson and Lindenstrauss, Contemporary Mathematics 26 (1984), on both sides of a matrix.
    """
    k = math.ceil(math.sqrt(SKETCH_SIZE / len(stack.layers)))
    generator = torch.Generator().manual_seed(0)
    parts = []
    for (_, A, B), layer in zip(stack.factors(), stack.layers, strict=True):
        P = torch.randn(k, layer.d_out, generator=generator).to(B.device)
        Q = torch.randn(layer.d_in, k, generator=generator).to(A.device)
        parts.append(((P @ B) @ (A @ Q)).flatten(1) / k)
    return stack.scalings.view(-1, 1).cpu() * torch.cat(parts, dim=1).cpu()


# --- by examples --------------------------------------------------------------


class Responses:
    """How each module alone changes the logits of the label tokens, computed when it is asked for.

    The prompts are those of the composition, and the changes are measured without their mean over the
    vocabulary, which changes no prediction.
    """

    def __init__(self, scorer: FewShotScorer, stack: ModuleStack) -> None:
        self._scorer, self._stack = scorer, stack
        self._known: dict[int, Tensor] = {}  # (T, width) by module
        self._base: Tensor | None = None  # (T, V)
        self._example = torch.empty(0)  # (T,), set with the base

    def assign(self, order: Sequence[int], numbers: Sequence[int]) -> list[tuple[int, float]]:
        """Return for each of these modules the one that represents it, and the cosine of both responses.

        A module represents itself unless an earlier one of the order that does so too responds alike.

        Args:
            order: the indices of modules, the lowest loss alone first.
            numbers: of the examples that may be read.
        """
        if len(order) < 2:
            return [(i, 1.0) for i in order]
        cosines = self._cosines(order, numbers)
        representatives: list[int] = []  # positions in the order
        found = []
        for position, i in enumerate(order):
            near = cosines[position, representatives] if representatives else torch.empty(0)
            if len(near) and float(near.max()) >= SAME_RESPONSE:
                best = int(near.argmax())
                found.append((order[representatives[best]], float(near[best])))
            else:
                representatives.append(position)
                found.append((i, 1.0))
        return found

    def _cosines(self, order: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """Return the cosines of all pairs; 0 for a response too small or too short to be told from others."""
        self._measure([i for i in order if i not in self._known])
        seen = torch.isin(self._example, torch.tensor(list(numbers)))
        responses = torch.stack([self._known[i][seen] for i in order]).flatten(1)
        if int(seen.sum()) < FEWEST_LABEL_TOKENS:
            return torch.zeros(len(order), len(order))
        is_large = responses.square().mean(-1).sqrt() >= SMALLEST_RESPONSE
        unit = torch.nn.functional.normalize(responses, dim=-1, eps=1e-30) * is_large.unsqueeze(-1)
        return torch.nan_to_num(unit @ unit.T, nan=0.0)

    @torch.no_grad()
    def _measure(self, indices: Sequence[int]) -> None:
        base, batch = self._scorer.base, self._scorer.batch
        if self._base is None:
            logits, self._example = base.label_logits(batch, {})
            self._base, self._projection = logits[0], projection(logits.shape[-1], logits.shape[1])
        size = base.candidates_at_once(batch)
        for start in range(0, len(indices), size):
            block = list(indices[start : start + size])
            logits, _ = base.label_logits(batch, single_modules(self._stack, block), len(block))
            changes = logits - self._base
            changes -= changes.mean(-1, keepdim=True)
            self._known.update(zip(block, project(changes, self._projection).cpu(), strict=True))
        self._scorer.candidates_scored += len(indices)


def projection(vocabulary: int, label_tokens: int) -> Tensor | None:
    """Return random numbers (vocabulary, width) that shorten logits and keep their inner products.

    None if the vocabulary is so small that nothing has to be shortened.
    """
    width = max(16, min(RESPONSE_WIDTH_MAX, RESPONSE_SIZE // label_tokens))
    if vocabulary <= 2 * width:
        return None
    return torch.randn(vocabulary, width, generator=torch.Generator().manual_seed(0)) / math.sqrt(width)


def project(changes: Tensor, onto: Tensor | None) -> Tensor:
    """Return the changes (P, T, V) as (P, T, width), or as they are."""
    return changes if onto is None else changes @ onto.to(changes.device)
