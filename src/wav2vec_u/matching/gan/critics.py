"""The discriminators of all members at once.

The same computation as `discriminator.Discriminator`, for E stacked sets of weights and sequences
one after the other. Nothing stands between the first two convolutions, so they are one table: a
row of weights for every symbol at every distance, and a few for the zero padding at the beginning.
A step of text is the sum of a few rows of it; a step of the generator is a product with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec_u.matching.gan.discriminator import Discriminator
from wav2vec_u.matching.gan.gelu import gelu
from wav2vec_u.matching.gan.layout import Layout, add_windows, windows


class Text(NamedTuple):
    """A batch of sentences, the same for all members.

    Attributes
    ----------
    rows : Tensor
        (R,) int64: the rows of the table of every step, one step behind the other.
    offsets : Tensor
        (N,) int64: where each step's rows begin.
    layout : Layout
        With E = 1.
    """

    rows: Tensor
    offsets: Tensor
    layout: Layout

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor, kernel: int, n_symbols: int) -> Text:
        """Make a batch of (B, L) phone ids and their mask, for discriminators of a kernel."""
        layout = Layout.of(mask.sum(1))
        row, position = ids[mask], layout.position[0]  # (N,)
        reach = 2 * kernel - 1
        back = torch.arange(reach)
        source = torch.arange(len(row)).unsqueeze(1) - back  # (N, reach)
        seen = back * n_symbols + row[source.clamp(min=0)]
        edge = reach * n_symbols + position.clamp(max=kernel - 1)
        rows = torch.cat([seen, edge.unsqueeze(1)], 1)
        inside = F.pad(back <= position.unsqueeze(1), (0, 1), value=True)
        count = inside.sum(1)
        return cls(rows[inside], count.cumsum(0) - count, layout)

    def for_members(self, count: int) -> Layout:
        """Return the layout, the same for each of `count` members."""
        return Layout(*(part.expand(count, -1) for part in self.layout))

    def to(self, device: torch.device) -> Text:
        """Return the batch on a device."""
        layout = Layout(*(part.to(device) for part in self.layout))
        return Text(self.rows.to(device), self.offsets.to(device), layout)


class Critics:
    """E discriminators of one architecture.

    Parameters
    ----------
    weights, biases : list of Tensor
        Of each convolution, (E, out, in, kernel) and (E, out).
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        self.weights = weights
        self.biases = biases
        self.kernel = weights[0].shape[-1]
        self.n_symbols = weights[0].shape[2]
        self.reach = 2 * self.kernel - 1

    @classmethod
    def stack(cls, members: list[Discriminator]) -> Critics:
        """Copy the weights of single discriminators."""
        layers = zip(*(member.convolutions() for member in members), strict=True)
        weights, biases = [], []
        for layer in layers:
            weights.append(torch.stack([conv.weight.detach() for conv in layer]))
            given = [conv.bias.detach() for conv in layer if conv.bias is not None]
            biases.append(torch.stack(given))
        return cls(weights, biases)

    def parameters(self) -> list[Tensor]:
        """Return all stacks, in a fixed order."""
        return [*self.weights, *self.biases]

    def table(self) -> Tensor:
        """Combine the first two convolutions; one call serves an update.

        Returns
        -------
        Tensor
            (E, reach * V + kernel, D): the row of symbol v at a distance of b steps is ``b V + v``;
            the last rows are the bias at the first, second, ... step of an utterance: the second
            layer's zero padding hides the first layer's bias there.
        """
        first, second = self.weights[0], self.weights[1]
        members, channels, symbols, k = first.shape
        out = second.shape[1]
        # Every tap of the second layer after every tap of the first.
        taps = second.permute(0, 3, 1, 2).reshape(members, k * out, channels)
        taps = taps @ first.reshape(members, channels, symbols * k)
        taps = taps.view(members, k, out, symbols, k)
        # Taps i and j reach back (k - 1 - i) + (k - 1 - j) steps together.
        by_place = sum(F.pad(taps[:, j], (j, k - 1 - j)) for j in range(k))
        assert isinstance(by_place, Tensor)  # (E, D, V, reach)
        rows = by_place.flip(-1).permute(0, 3, 2, 1).reshape(members, -1, out)
        bias = torch.einsum("eock,ec->eko", second, self.biases[0]).flip(1).cumsum(1)  # (E, k, D)
        return torch.cat([rows, bias + self.biases[1].unsqueeze(1)], 1)

    def hear_text(self, table: Tensor, text: Text) -> Tensor:
        """Return what the second layer says of text, (N, E, D)."""
        members, rows, out = table.shape
        wide = table.transpose(0, 1).reshape(rows, members * out)
        heard = F.embedding_bag(text.rows, wide, text.offsets, mode="sum")
        return heard.view(-1, members, out)

    def hear(self, table: Tensor, probabilities: Tensor, layout: Layout) -> Tensor:
        """Return what the second layer says of (E, N, V) distributions, (E, N, D)."""
        return windows(probabilities, layout.position, self.reach, self.kernel) @ table

    def scores(self, heard: Tensor, layout: Layout, lengths: Tensor | None = None) -> Tensor:
        """Finish the score of every utterance; larger means generated.

        Parameters
        ----------
        heard : Tensor
            (E, N, D) of `hear`.
        layout : Layout
        lengths : Tensor or None
            (E, B): count no more than these first steps.

        Returns
        -------
        Tensor
            (E, B): mean logit over the steps; 0 for an utterance without any.
        """
        lengths = layout.lengths if lengths is None else lengths
        left = lengths.gather(1, layout.utterance) - layout.position  # (E, N)
        for weight, bias in zip(self.weights[2:-1], self.biases[2:-1], strict=True):
            taps = weight.flip(-1).permute(0, 3, 2, 1).flatten(1, 2)  # (E, k * D, D)
            seen = windows(gelu(heard), layout.position, self.kernel)
            heard = torch.baddbmm(bias.unsqueeze(1), seen, taps)
        if len(self.weights) == 2:
            steps = heard.squeeze(-1).masked_fill(left <= 0, 0.0)
        else:
            # What a step adds to the scores of the steps ahead of it, the nearest first.
            ahead = gelu(heard) @ self.weights[-1][:, 0].flip(-1)  # (E, N, k)
            inside = torch.arange(self.kernel, device=heard.device) < left.unsqueeze(-1)
            steps = ahead.masked_fill(~inside, 0.0).sum(-1)
        scores = layout.sums(steps) / lengths.clamp(min=1)
        # Of two layers, the table holds both biases.
        return scores if len(self.weights) == 2 else scores + self.biases[-1] * (lengths > 0)

    def slope(self, table: Tensor, by_heard: Tensor, layout: Layout) -> Tensor:
        """Turn gradients by what was heard (E, N, D) into gradients by the input (E, N, V)."""
        rows = table[:, : self.reach * self.n_symbols]
        return add_windows(by_heard @ rows.transpose(1, 2), layout.position, self.reach)
