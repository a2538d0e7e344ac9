"""ARPA files: n-gram tables as text, readable by KenLM, SRILM and Kaldi."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.ngram_table import (
    FIRST_SYMBOL,
    SPECIAL_NAMES,
    START,
    UNKNOWN,
    NgramTable,
    key_base,
    unpack,
)

MAX_ORDER = 6
MISSING_UNKNOWN = -100.0  # log10 p of <unk> in a file without one, as in KenLM
_POSITIVE_TOLERANCE = 1e-4  # log10; some tools round a probability of one upwards
_Lines = Iterator[tuple[int, str]]


def write_arpa(path: Path, tables: Sequence[NgramTable], symbols: Sequence[str]) -> None:
    """Write tables of orders 1, 2, ...; gzipped if the name ends in ``.gz``.

    Raises
    ------
    ValueError
        If a symbol is empty, has white space in it, or is <s>, </s> or <unk>.
    """
    for symbol in symbols:
        if symbol in SPECIAL_NAMES or symbol.split() != [symbol]:
            raise ValueError(f"{symbol!r} cannot be a symbol of an ARPA file")
    names = [*SPECIAL_NAMES, *symbols]
    base = len(names)
    temporary = path.with_name(path.name + ".tmp")
    with _open(temporary, "w", zipped=path.suffix == ".gz") as file:
        file.write("\\data\\\n")
        for n, table in enumerate(tables, start=1):
            file.write(f"ngram {n}={len(table.keys)}\n")
        for n, table in enumerate(tables, start=1):
            file.write(f"\n\\{n}-grams:\n")
            is_highest = n == len(tables)
            rows = zip(
                unpack(table.keys, n, base).tolist(),
                table.log10_probs.tolist(),
                table.log10_backoffs.tolist(),
                strict=True,
            )
            for tokens, prob, backoff in rows:
                words = " ".join([names[token] for token in tokens])
                end = "\n" if is_highest else f"\t{backoff:.8g}\n"
                file.write(f"{prob:.8g}\t{words}{end}")
        file.write("\n\\end\\\n")
    temporary.replace(path)


def read_arpa(path: Path, symbols: Sequence[str] | None) -> tuple[list[NgramTable], list[str]]:
    """Read tables of orders 1, 2, ... and the symbols that their ids stand for.

    Parameters
    ----------
    path : Path
        ARPA file, gzipped if its name ends in ``.gz``.
    symbols : sequence of str or None
        Symbol of every id; a word of the file that is none of them is an error. None: the words of
        the file in its order.

    Raises
    ------
    UserError
        If the file is missing, truncated, or contradicts itself.
    """
    try:
        with _open(path, "r", zipped=path.suffix == ".gz") as file:
            lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1))
            return _parse(path, lines, symbols)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no ARPA file (not UTF-8 text)") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as an ARPA file ({reason})") from error


def _open(path: Path, mode: str, *, zipped: bool) -> IO[str]:
    if zipped:
        return gzip.open(path, mode + "t", encoding="utf-8")  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8")


def _parse(
    path: Path, lines: _Lines, symbols: Sequence[str] | None
) -> tuple[list[NgramTable], list[str]]:
    promised = _parse_header(path, lines)
    order = len(promised)
    tokens = {name: token for token, name in enumerate(SPECIAL_NAMES)}
    if symbols is not None:
        tokens |= {name: token for token, name in enumerate(symbols, start=FIRST_SYMBOL)}
    tables: list[NgramTable] = []
    base = 0
    for n, expected in enumerate(promised, start=1):
        rows, probs, backoffs = _parse_section(
            path, lines, n, expected, tokens, grow=n == 1 and symbols is None
        )
        if n == 1:
            base = key_base(len(tokens) - FIRST_SYMBOL, order)
            if (START,) not in rows:
                raise UserError(f"{path}: has no <s> among its 1-grams; write the file again")
            if (UNKNOWN,) not in rows:
                rows.append((UNKNOWN,))
                probs.append(MISSING_UNKNOWN)
                backoffs.append(0.0)
        tables.append(_table(path, n, base, rows, probs, backoffs))
    number, line = _next(path, lines, "\\end\\")
    if line != "\\end\\":
        raise UserError(f"{path}:{number}: expected \\end\\ and found {line!r}")
    return tables, list(tokens)[FIRST_SYMBOL:]


def _parse_header(path: Path, lines: _Lines) -> list[int]:
    promised: list[int] = []
    while _next(path, lines, "\\data\\")[1] != "\\data\\":
        continue  # KenLM and SRILM allow a preamble
    for number, line in lines:
        if line.startswith("ngram "):
            order, _, count = line.removeprefix("ngram ").partition("=")
            in_order = order.strip() == str(len(promised) + 1)
            if not in_order or not count.strip().isdigit():
                raise UserError(f"{path}:{number}: expected `ngram N=COUNT`, found {line!r}")
            promised.append(int(count))
        elif promised:
            break
    if not 1 <= len(promised) <= MAX_ORDER:
        raise UserError(f"{path}: has {len(promised)} orders; 1 to {MAX_ORDER} can be read")
    return promised


def _parse_section(
    path: Path, lines: _Lines, n: int, expected: int, tokens: dict[str, int], *, grow: bool
) -> tuple[list[tuple[int, ...]], list[float], list[float]]:
    number, line = _next(path, lines, f"\\{n}-grams:")
    if line != f"\\{n}-grams:":
        raise UserError(f"{path}:{number}: expected \\{n}-grams: and found {line!r}")
    rows: list[tuple[int, ...]] = []
    probs: list[float] = []
    backoffs: list[float] = []
    for _ in range(expected):
        number, line = _next(path, lines, f"{expected} {n}-grams")
        fields = line.split()
        if len(fields) not in (n + 1, n + 2):
            raise UserError(
                f"{path}:{number}: expected one of {expected} {n}-grams, found {line!r}"
            )
        if grow:
            tokens.setdefault(fields[1], len(tokens))
        try:
            rows.append(tuple([tokens[word] for word in fields[1 : n + 1]]))
            probs.append(float(fields[0]))
            backoffs.append(float(fields[n + 1]) if len(fields) == n + 2 else 0.0)
        except KeyError as error:
            raise UserError(
                f"{path}:{number}: {error.args[0]!r} is none of the model's symbols"
            ) from error
        except ValueError as error:
            raise UserError(f"{path}:{number}: {line!r} has no proper numbers") from error
        if not probs[-1] <= _POSITIVE_TOLERANCE or not math.isfinite(backoffs[-1]):
            raise UserError(f"{path}:{number}: {line!r} is no log10 probability")
    return rows, probs, backoffs


def _table(
    path: Path,
    n: int,
    base: int,
    rows: list[tuple[int, ...]],
    probs: list[float],
    backoffs: list[float],
) -> NgramTable:
    places = base ** np.arange(n - 1, -1, -1, dtype=np.int64)
    keys = np.array(rows, dtype=np.int64).reshape(len(rows), n) @ places  # (K, n) -> (K,)
    ascending = np.argsort(keys, kind="stable")
    keys = keys[ascending]
    if np.any(keys[1:] == keys[:-1]):
        raise UserError(f"{path}: has the same {n}-gram twice; write the file again")
    return NgramTable(keys, np.array(probs)[ascending], np.array(backoffs)[ascending])


def _next(path: Path, lines: _Lines, wanted: str) -> tuple[int, str]:
    """Return the next line that is not empty."""
    for number, line in lines:
        if line.strip():
            return number, line.strip()
    raise UserError(f"{path}: is cut short, {wanted} is missing; write the file again")
