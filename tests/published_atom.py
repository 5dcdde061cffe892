"""The published ATOM, computed slowly and literally in NumPy: what the operator must agree with.

One molecule, every copy of the state carried along, every token's attention written out, every
linear map on its own. Weights are read from an operator; nothing else of it is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class PublishedAtom:
    """Positions (or vectors in general) that the published model computes.

    Parameters
    ----------
    weights
        State of a `PaperOperator`, as arrays.
    heads, blocks, rope_base
        Of its configuration.
    """

    def __init__(
        self, weights: dict[str, Array], heads: int = 8, blocks: int = 5, rope_base: float = 1000.0
    ) -> None:
        self.w = weights
        self.heads, self.blocks, self.rope_base = heads, blocks, rope_base

    def __call__(
        self, x: Array, v: Array, numbers: Array, steps: Array, context: int, walks: Array | None
    ) -> Array:
        """Output vectors, ``[tokens' times, atoms, outputs, 3]``.

        Parameters
        ----------
        x, v
            Positions and velocities in the network's units, ``[atoms, 3]``.
        numbers
            Atomic numbers.
        steps
            Instants of the copies of the state, in grid steps; the first ``context`` are attended.
        walks
            Return probabilities, ``[atoms, walks]``.
        """
        w = self.w
        scalars = [np.linalg.norm(v, axis=1), numbers]
        scalars += [] if walks is None else list(walks.T)
        lifted_x = self.lift("lift.positions", [x], [np.linalg.norm(x, axis=1)])
        lifted_v = self.lift("lift.velocities", [v], [np.linalg.norm(v, axis=1)])
        partner = self.lift("lift.partner", [v], scalars)
        phase = np.stack([self.product(a, b) for a, b in zip(lifted_x, partner, strict=True)])
        # P copies of everything: tokens are (time, atom) pairs.
        copies = len(steps)
        xs, vs, phases = (np.tile(rows, (copies, 1)) for rows in (lifted_x, lifted_v, phase))
        instants = np.repeat(steps, len(x))
        attended = context * len(x)
        first = None
        for index in range(self.blocks):
            xs = self.block(f"trunk.blocks.{index}", xs, vs, phases, instants, attended)
            if first is None:
                first = xs
            else:
                own = 1 / (1 + np.exp(-w["trunk.residual"][index - 1]))
                xs = own * xs + (1 - own) * first
        vectors = self.project(xs)
        return vectors.reshape(copies, len(x), -1, 3)

    def lift(self, name: str, vectors: list[Array], scalars: list[Array]) -> Array:
        of_vectors, of_scalars = self.w[f"{name}.vectors"], self.w[f"{name}.scalars"]
        rows = []
        for atom in range(len(vectors[0])):
            out = [
                sum(weights[u] * vectors[u][atom] for u in range(len(vectors)))
                / np.sqrt(len(vectors))
                for weights in of_vectors
            ]
            rest = [
                sum(weights[u] * scalars[u][atom] for u in range(len(scalars)))
                / np.sqrt(len(scalars))
                for weights in of_scalars
            ]
            rows.append(np.concatenate([*out, rest]))
        return np.array(rows)

    def product(self, a: Array, b: Array) -> Array:
        """Tensor product of one atom's features, output by output."""
        names = ("vector_vector", "vector_scalar", "scalar_vector", "scalar_scalar")
        vv, vs, sv, ss = (self.w[f"lift.phase.{name}"] for name in names)
        count, rest = vv.shape[0], ss.shape[0]
        a1, a0 = a[: 3 * count].reshape(-1, 3), a[3 * count :]
        b1, b0 = b[: 3 * count].reshape(-1, 3), b[3 * count :]
        vectors = np.zeros((count, 3))
        for u in range(count):
            for s in range(rest):
                vectors += vs[u, s][:, None] * a1[u] * b0[s] + sv[s, u][:, None] * a0[s] * b1[u]
        scalars = np.zeros(rest)
        for u in range(count):
            for t in range(count):
                scalars += vv[u, t] * (a1[u] @ b1[t]) / np.sqrt(3)
        for s in range(rest):
            for t in range(rest):
                scalars += ss[s, t] * a0[s] * b0[t]
        vectors /= np.sqrt(2 * count * rest)
        scalars /= np.sqrt(count**2 + rest**2)
        return np.concatenate([vectors.ravel(), scalars])

    def block(
        self, name: str, x: Array, v: Array, phase: Array, instants: Array, attended: int
    ) -> Array:
        gain = self.w[f"{name}.norm.weight"]
        epsilon = np.finfo(gain.dtype).eps

        def norm(rows: Array) -> Array:
            return rows / np.sqrt((rows**2).mean(-1, keepdims=True) + epsilon) * gain

        x_normed = norm(x)
        heard = self.attention(
            f"{name}.attention", phase, [x_normed, norm(v), norm(phase)], instants, attended
        )
        after = x_normed + heard
        return after + self.feed_forward(f"{name}.feed_forward", after)

    def attention(
        self, name: str, queries: Array, sources: list[Array], instants: Array, attended: int
    ) -> Array:
        width = queries.shape[1] // self.heads
        logits = self.w[f"{name}.gate_logits"]
        gates = np.exp(logits) / np.exp(logits).sum()
        query = self.linear(f"{name}.query", queries)
        total = np.zeros_like(queries)
        for gate, source in zip(gates, sources, strict=True):
            key = self.linear(f"{name}.key", source)
            value = self.linear(f"{name}.value", source)
            for head in range(self.heads):
                part = slice(head * width, (head + 1) * width)
                q = self.rotary(query[:, part], instants)
                k = self.rotary(key[:, part], instants)
                for token in range(len(queries)):
                    scores = k[:attended] @ q[token] / width
                    weights = np.exp(scores - scores.max())
                    weights /= weights.sum()
                    total[token, part] += gate * (weights @ value[:attended, part])
        return self.linear(f"{name}.out", total)

    def rotary(self, rows: Array, instants: Array) -> Array:
        out = rows.copy()
        width = rows.shape[1]
        for pair in range(width // 2):
            angle = instants * self.rope_base ** (-2 * pair / width)
            even, odd = rows[:, 2 * pair], rows[:, 2 * pair + 1]
            out[:, 2 * pair] = even * np.cos(angle) - odd * np.sin(angle)
            out[:, 2 * pair + 1] = even * np.sin(angle) + odd * np.cos(angle)
        return out

    def feed_forward(self, name: str, rows: Array) -> Array:
        for layer in ("first", "second"):
            rows = self.linear(f"{name}.{layer}", rows)
            gate = self.linear(f"{name}.gate", rows)
            rows = gate / (1 + np.exp(-gate)) * self.linear(f"{name}.value", rows)
        return self.linear(f"{name}.last", rows)

    def linear(self, name: str, rows: Array) -> Array:
        return rows @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def project(self, rows: Array) -> Array:
        weights = self.w["heads.maps.vectors"]
        count = weights.shape[1]
        vectors = rows[:, : 3 * count].reshape(len(rows), count, 3)
        return np.einsum("ou,tux->tox", weights, vectors) / np.sqrt(count)
