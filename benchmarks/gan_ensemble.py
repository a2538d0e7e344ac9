"""Claim: a member of the ensemble costs a small part of a step after the reference's structure.

The baseline computes the same objective as published, for one member: padded batches, two separate
convolutions, a join that loops over utterances, passes over the text in generator updates, and
gradients of both networks in every update. Both run on the same batches in this process, in turns;
figures are medians of a generator and a discriminator update, in seconds for one member. Peak
memory is that of the process so far, so give one number of members to measure it.

    python benchmarks/gan_ensemble.py [--members 1 4 16] [--device cuda]

The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.adam import BETAS, EPS
from wav2vec_u.matching.gan.ensemble import Ensemble
from wav2vec_u.matching.gan.feed import Feed
from wav2vec_u.matching.gan.hyperparameters import choose
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
        rows.append(scores[chosen[values != -1].to(scores.device)])
    joined = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=logits.device)
    steps = torch.arange(joined.shape[1], device=logits.device)
    return joined, steps >= lengths.unsqueeze(1)


class Baseline:
    """The reference's step: everything is computed in every update."""

    def __init__(self, dim: int, symbols: int, gan: GanConfig, device: torch.device) -> None:
        self.gan = gan
        self.choice = choose(gan, 0)
        self.symbols = symbols
        self.device = device
        pad = gan.generator_kernel // 2
        self.generator = nn.Conv1d(dim, symbols, gan.generator_kernel, padding=pad, bias=False)
        self.generator.to(device)
        self.discriminator = BaselineDiscriminator(symbols, gan).to(device)
        self.optimizers = [
            torch.optim.AdamW(
                network.parameters(), lr=rate, betas=BETAS, eps=EPS, weight_decay=decay
            )
            for network, rate, decay in (
                (self.generator, self.choice.generator_lr, 0.0),
                (self.discriminator, self.choice.discriminator_lr, gan.discriminator_weight_decay),
            )
        ]

    def step(self, update: int, feed: Feed) -> None:
        """Do one update of one of the two networks."""
        gan, choice, device = self.gan, self.choice, self.device
        vectors, heard = (part.to(device) for part in feed.speech(update))
        ids, read = (part.to(device) for part in feed.text(update))
        padding, text, batch = ~heard, ~read, len(vectors)
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
            alpha = torch.rand(batch, 1, 1, device=device)
            mixed = alpha * real[:, :steps] + (1 - alpha) * fake[:, :steps]
            scores = self.discriminator(mixed, None)
            (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
            loss = (
                bce(fake_scores, torch.ones_like(fake_scores), reduction="sum")
                + bce(real_scores, torch.zeros_like(real_scores), reduction="sum")
                + choice.gradient_penalty * (slope.norm(2, dim=1) - 1).square().sum()
            )
        else:
            squares = (logits[:, :-1] - logits[:, 1:]).square()
            squares = squares.masked_fill(padding[:, 1:].unsqueeze(-1), 0)
            loss = (
                bce(fake_scores, torch.zeros_like(fake_scores), reduction="sum")
                + choice.diversity * batch * (self.symbols - perplexity) / self.symbols
                + choice.smoothness * batch * squares.mean()
            )
        parameters = [*self.generator.parameters(), *self.discriminator.parameters()]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (loss / batch).backward()
        nn.utils.clip_grad_norm_(parameters, gan.clip_norm)
        self.optimizers[update % 2].step()


def made_up(utterances: int, dim: int, phones: int) -> tuple[PlantedSegments, PlantedText]:
    """Utterances of 20 to 100 segments (mean 60), and text a little shorter."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 101, size=utterances)
    vectors = [rng.standard_normal((length, dim)).astype(np.float32) for length in lengths]
    labels = [np.zeros(length, dtype=np.int64) for length in lengths]
    sentences = [
        [rng.integers(1, phones, size=int(rng.integers(15, 76))).tolist()] for _ in lengths
    ]
    text = PlantedText(tuple(f"p{i}" for i in range(phones)), sentences)
    return PlantedSegments(vectors, labels, ["train"] * utterances), text


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of some work, the device's included."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def main() -> None:
    """Time both and print the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=3, help="pairs of updates of each kind")
    parser.add_argument("--utterances", type=int, default=160)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--phones", type=int, default=45)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    segments, text = made_up(args.utterances, args.dim, args.phones)
    gan = GanConfig(batch_size=args.utterances)
    feed = Feed(segments, text, gan, seed=0)
    baseline = Baseline(args.dim, args.phones, gan, device)
    for count in args.members:
        ours = Ensemble(list(range(count)), feed, gan, device, None)
        times: dict[str, list[float]] = {"ours": [], "baseline": []}
        for pair in range(args.repeats + 1):  # the first pair warms up
            updates = (2 * pair, 2 * pair + 1)
            mine = sum(timed(device, partial(ours.step, update)) for update in updates)
            theirs = sum(timed(device, partial(baseline.step, update, feed)) for update in updates)
            times["ours"].append(mine / 2 / count)
            times["baseline"].append(theirs / 2)
        value = statistics.median(times["ours"][1:])
        reference = statistics.median(times["baseline"][1:])
        print(
            json.dumps(
                {
                    "name": "gan_ensemble",
                    "members": count,
                    "value": round(value, 4),
                    "unit": "s/update and member",
                    "baseline": round(reference, 4),
                    "ratio": round(reference / value, 2),
                    "peak_mib": round(peak_mib(device)),
                }
            ),
            flush=True,
        )


def peak_mib(device: torch.device) -> float:
    """Peak memory so far, of the process or of the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
