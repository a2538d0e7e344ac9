"""Seconds of one generator and one discriminator update, ours against the reference's structure.

The baseline computes the same objective as published: two separate convolutions, a join that
loops over utterances, passes over the text in generator updates, and gradients of both networks
in every update. Both run on the same batches in this process, in turns; the figure is the median.

    python benchmarks/gan_step.py [--repeats N] [--utterances N] [--dim P] [--phones V]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec_u.config import GanConfig, MatchingConfig
from wav2vec_u.matching.gan import ADAM_BETAS, ADAM_EPS, Member
from wav2vec_u.testing.planted import PlantedSegments, PlantedText


class BaselineDiscriminator(nn.Module):
    """Causal convolutions, one by one."""

    def __init__(self, symbols: int, gan: GanConfig) -> None:
        super().__init__()
        kernel, dim = gan.discriminator_kernel, gan.discriminator_dim
        sizes = [symbols, *[dim] * gan.discriminator_depth, 1]
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, kernel, padding=kernel - 1) for a, b in pairwise(sizes)
        )
        self.cut = kernel - 1

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        x = x.transpose(1, 2)
        for index, layer in enumerate(self.layers):
            x = layer(x)[..., : -self.cut]
            if 0 < index < len(self.layers) - 1:
                x = F.gelu(x)
        scores = x.squeeze(1)
        if padding is None:
            return scores.mean(1)
        return scores.masked_fill(padding, 0).sum(1) / (~padding).sum(1)


def baseline_join(logits: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Join runs of equal arg-max, utterance by utterance."""
    best = logits.argmax(-1).masked_fill(padding, -1)
    rows = []
    for scores, labels in zip(logits, best, strict=True):
        values, counts = labels.cpu().unique_consecutive(return_counts=True)
        first = counts.cumsum(0) - counts
        chosen = first + (torch.rand(len(counts)) * counts).long()
        rows.append(scores[chosen[values != -1]])
    joined = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return joined, torch.arange(joined.shape[1]) >= lengths.unsqueeze(1)


class Baseline:
    """The reference's step: everything is computed in every update."""

    def __init__(self, dim: int, symbols: int, gan: GanConfig) -> None:
        self.gan = gan
        self.symbols = symbols
        pad = gan.generator_kernel // 2
        self.generator = nn.Conv1d(dim, symbols, gan.generator_kernel, padding=pad, bias=False)
        self.discriminator = BaselineDiscriminator(symbols, gan)
        self.optimizers = [
            torch.optim.AdamW(
                network.parameters(), lr=rate, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=decay
            )
            for network, rate, decay in (
                (self.generator, gan.generator_lr, 0.0),
                (self.discriminator, gan.discriminator_lr, gan.discriminator_weight_decay),
            )
        ]

    def step(
        self, update: int, vectors: Tensor, padding: Tensor, ids: Tensor, text: Tensor
    ) -> None:
        gan, batch = self.gan, len(vectors)
        x = F.dropout(vectors, gan.generator_dropout)
        logits = self.generator(x.transpose(1, 2)).transpose(1, 2)
        padding = F.pad(padding, (logits.shape[1] - padding.shape[1], 0), value=False)
        logits, padding = baseline_join(logits, padding)
        fake = logits.softmax(-1)
        average = fake.mean((0, 1))
        perplexity = (-(average * (average + 1e-7).log()).sum()).exp()
        real = F.one_hot(ids, self.symbols).float()
        fake_scores = self.discriminator(fake, padding)
        real_scores = self.discriminator(real, text)
        bce = F.binary_cross_entropy_with_logits
        if update % 2 == 1:
            steps = min(fake.shape[1], real.shape[1])
            alpha = torch.rand(batch, 1, 1)
            mixed = alpha * real[:, :steps] + (1 - alpha) * fake[:, :steps]
            scores = self.discriminator(mixed, None)
            (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
            loss = (
                bce(fake_scores, torch.ones(batch), reduction="sum")
                + bce(real_scores, torch.zeros(batch), reduction="sum")
                + gan.gradient_penalty * (slope.norm(2, dim=1) - 1).square().sum()
            )
        else:
            squares = (logits[:, :-1] - logits[:, 1:]).square()
            squares = squares.masked_fill(padding[:, 1:].unsqueeze(-1), 0)
            loss = (
                bce(fake_scores, torch.zeros(batch), reduction="sum")
                + gan.diversity * batch * (self.symbols - perplexity) / self.symbols
                + gan.smoothness * batch * squares.mean()
            )
        parameters = [*self.generator.parameters(), *self.discriminator.parameters()]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (loss / batch).backward()
        nn.utils.clip_grad_norm_(parameters, gan.clip_norm)
        self.optimizers[update % 2].step()


def made_up(
    utterances: int, dim: int, phones: int
) -> tuple[PlantedSegments, PlantedText, list[np.ndarray]]:
    """Utterances of 20 to 100 segments (mean 60), and text a little shorter."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 101, size=utterances)
    vectors = [rng.standard_normal((length, dim)).astype(np.float32) for length in lengths]
    labels = [np.zeros(length, dtype=np.int64) for length in lengths]
    sentences = [
        [rng.integers(1, phones, size=int(rng.integers(15, 76))).tolist()] for _ in lengths
    ]
    text = PlantedText(tuple(f"p{i}" for i in range(phones)), sentences)
    return PlantedSegments(vectors, labels, ["train"] * utterances), text, vectors


def main() -> None:
    """Time both and print the claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--utterances", type=int, default=160)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--phones", type=int, default=45)
    args = parser.parse_args()
    torch.manual_seed(0)
    segments, text, _ = made_up(args.utterances, args.dim, args.phones)
    gan = GanConfig(batch_size=args.utterances)
    config = MatchingConfig(seeds=1, device="cpu", gan=gan)
    ours = Member(0, Path(), segments, text, config, None, None)  # step() writes nothing
    baseline = Baseline(args.dim, args.phones, gan)

    times: dict[str, list[float]] = {"ours": [], "baseline": []}
    for pair in range(args.repeats + 1):  # the first pair warms up
        spent = {"ours": 0.0, "baseline": 0.0}
        for update in (2 * pair, 2 * pair + 1):
            began = time.perf_counter()
            ours.step(update)
            spent["ours"] += time.perf_counter() - began
            began = time.perf_counter()
            vectors, mask = ours.speech.batch(update)
            ids, text_mask = ours.text.batch(update)
            baseline.step(update, vectors, ~mask, ids, ~text_mask)
            spent["baseline"] += time.perf_counter() - began
        for name, seconds in spent.items():
            times[name].append(seconds / 2)
    value = statistics.median(times["ours"][1:])
    reference = statistics.median(times["baseline"][1:])
    print(
        json.dumps(
            {
                "name": "gan_step",
                "value": round(value, 4),
                "unit": "s/update",
                "baseline": round(reference, 4),
                "ratio": round(reference / value, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
