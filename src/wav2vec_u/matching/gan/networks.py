"""The first weights of a member."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from wav2vec_u.config import GanConfig
from wav2vec_u.matching.gan.auxiliary import HEAD, CodeGenerator
from wav2vec_u.matching.gan.discriminator import Discriminator
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator


def start_of(
    start: dict[str, Tensor] | None, number: int, first: Collection[int]
) -> dict[str, Tensor] | None:
    """Return from where a member begins: `start`, or None for nothing.

    Every second one of the `first` members begins from it. Where it has misread the recordings, the
    others, and those that come in the place of hopeless ones, can still find the language.
    """
    return start if number in first and number % 2 == 0 else None


def make_networks(
    config: GanConfig,
    dim: int,
    n_symbols: int,
    n_phones: int,
    seed: int,
    number: int,
    start: dict[str, Tensor] | None,
) -> tuple[Generator, Discriminator]:
    """Make the two networks of a member.

    Parameters
    ----------
    config : GanConfig
    dim : int
        P, size of a segment vector.
    n_symbols : int
        Outputs: the phones, and whatever stands behind them.
    n_phones : int
    seed, number : int
        Of the run and of the member; the first weights depend on both and nothing else.
    start : dict of Tensor or None
        State of a `Generator` with one output a phone, from which the generator starts.

    Raises
    ------
    UserError
        If `start` is that of another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        # torch's initialisers know no other generator than the global one.
        torch.manual_seed(int(numpy_generator(seed, "gan member", number).integers(2**31)))
        generator = _generator(config, dim, n_symbols)
        if any(config.auxiliary):
            generator = CodeGenerator(config.auxiliary_codes, **generator.settings)
        discriminator = _discriminator(config, n_symbols)
    if start is not None:
        _load_start(generator, start, n_phones)
    return generator, discriminator


def make_discriminator(
    config: GanConfig, n_symbols: int, seed: int, number: int, update: int
) -> Discriminator:
    """Make the discriminator with which a member goes on after a reset at an update."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(seed, "reset", number, update).integers(2**31)))
        return _discriminator(config, n_symbols)


def _load_start(generator: Generator, start: dict[str, Tensor], n_phones: int) -> None:
    state = generator.state_dict()
    merged = {}
    for name, value in state.items():
        if name.startswith(HEAD):  # which no start has
            merged[name] = value
            continue
        given = start.get(name)
        # Other symbols stand behind the phones and keep their random start.
        by_symbol = name in generator.output_names
        expected = (n_phones, *value.shape[1:]) if by_symbol else tuple(value.shape)
        if given is None or tuple(given.shape) != expected:
            shape = None if given is None else tuple(given.shape)
            raise UserError(
                f"matching: the starting generator's {name} is {shape}, not {expected}; set "
                "matching.gan.generator_kernel and the like to those it was made with"
            )
        merged[name] = value.clone()
        merged[name][: len(given)] = given
    generator.load_state_dict(merged)


def rebuild_generator(
    config: GanConfig, dim: int, n_phones: int, weights: dict[str, Tensor]
) -> Generator:
    """Make the generator of a member from its kept weights, with one output a phone."""
    generator = _generator(config, dim, n_phones)
    generator.load_state_dict(
        {name: value for name, value in weights.items() if not name.startswith(HEAD)}
    )
    return generator.eval()


def _generator(config: GanConfig, dim: int, n_symbols: int) -> Generator:
    return Generator(
        dim,
        n_symbols,
        config.generator_kernel,
        config.generator_stride,
        config.generator_dropout,
        batch_norm=config.generator_batch_norm,
        residual=config.generator_residual,
        hidden=config.generator_hidden,
        reference_padding=config.reference,
    )


def _discriminator(config: GanConfig, n_symbols: int) -> Discriminator:
    return Discriminator(
        n_symbols,
        config.discriminator_dim,
        config.discriminator_depth,
        config.discriminator_kernel,
    )
