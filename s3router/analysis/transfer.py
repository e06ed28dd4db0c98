"""The matrix of transfer: how well the mask of one route serves another language, with a head fitted anew.

A cell (a, b) is the test error rate of language b on the upstream under the mask of route a, which stays as it is; a
linear CTC head trains on b's training speech, and nothing else. A row `UNMASKED` has the upstream without a mask. Cells
are finished one by one, and those of an earlier run are kept.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from s3router.analysis.mask_set import read_sources
from s3router.analysis.refit import HeadOptions, error_rate, fit_head, hidden_states
from s3router.analysis.representation import FROZEN, Resident, load_resident, routed
from s3router.analysis.tables import UNMASKED, Table
from s3router.asr.inputs import check_tokens
from s3router.data.audio import Seconds
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds, read_token_list
from s3router.errors import ConfigError, DataError
from s3router.files import replacing
from s3router.packs import MaskPack
from s3router.packs.bits import masks_digest, pack_bits
from s3router.serving.loading import backbone_of

SETS = ("train", "dev", "test")
COLUMNS = (
    *("a", "b", "value", "dev", "seed", "updates", "best_update", "pack", "masks", "head_lr", "batch_seconds"),
    *("train_seconds", "dev_seconds", "test_seconds", "whole_test_seconds", "arithmetic"),
)
"""Of the table: ``value`` and ``dev`` are character error rates, shares; ``masks`` a digest of what serves."""
_KEY = ("a", "b", "pack", "seed")
_SETTINGS = (*("updates", "head_lr", "batch_seconds"), *("train_seconds", "dev_seconds", "test_seconds"))


@dataclass(frozen=True)
class Language:
    """A language that masks serve.

    Attributes:
        name: as routes are called.
        train, dev, test: with durations.
        whole_test: seconds of the test set before it was cut.
        tokens: of its head.
    """

    name: str
    train: DataDir
    dev: DataDir
    test: DataDir
    whole_test: Seconds
    tokens: TokenIds


@dataclass(frozen=True)
class Job:
    """What to make.

    Attributes:
        sources: mask packs or experiment folders of one backbone; those of one route are its seeds.
        places: ``train``, ``dev``, ``test`` -> data directory, and ``tokens`` -> token list, for each language by name.
            A language without ``tokens`` has the token list of its pack.
        upstream, ckpt: the backbone's, where the first source's own do not hold.
        seeds: of the heads; a row for each.
        head: how heads are fitted.
        max_test_seconds: test sets are cut to about so much, always the same utterances; None: they are whole.
        arithmetic: ``auto``, ``bfloat16`` or ``float32``, of the upstream. ``auto`` is that of the table's cells where
            there are some, else the faster one.
        device: of the upstream; heads train on the CPU.
    """

    sources: tuple[str, ...]
    places: Mapping[str, Mapping[str, Path]]
    upstream: str | None = None
    ckpt: str | None = None
    seeds: tuple[int, ...] = (0,)
    head: HeadOptions = field(default_factory=HeadOptions)
    max_test_seconds: Seconds | None = None
    arithmetic: str = "auto"
    device: str = "cpu"


def transfer(
    job: Job,
    output: Path,
    tell: Callable[[str], None] = lambda text: None,
    bar: Callable[[int, int], Callable[[str], None]] = lambda total, done: lambda text: None,
) -> list[dict[str, Any]]:
    """Make the cells that the table lacks.

    Args:
        output: the table, comma-separated values; it is written after each language and mask.
        tell: gets a line on each step.
        bar: (cells in all, cells that are there) -> what is called after each further cell with a word on it.

    Returns:
        all rows of the table, those of earlier runs included.

    Raises:
        PackError, CheckpointError: a pack or experiment is damaged, or of another backbone.
        DataError: sets or token lists are missing or wrong, or `output` is no such table.
        ConfigError: no packs or languages; a route called `UNMASKED`; a table of other settings, masks or data, or one
            that another run is filling.
    """
    if not job.sources:
        raise ConfigError("no packs given; name at least one")
    with _alone(output):
        return _filled(job, output, tell, bar)


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the table against other runs, which would write it without the cells of this one."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(output.with_name(f".{output.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{output}: another run is filling this table; wait for it, or name another file") from None


def _filled(
    job: Job, output: Path, tell: Callable[[str], None], bar: Callable[[int, int], Callable[[str], None]]
) -> list[dict[str, Any]]:
    rows = _read(output)
    _check_arithmetic(rows, job.arithmetic, output)
    tell("loading the backbone")
    resident = load_resident(job.sources[0], job.upstream, job.ckpt, job.device)
    packs = _packs(job, resident)
    served = _served(job, {pack.route: pack for _, pack, _ in packs})
    columns = [(UNMASKED, None, ""), *packs]
    wanted = [
        _cell(label, None if pack is None else pack.route, masks, language, seed, job)
        for language in served
        for label, pack, masks in columns
        for seed in job.seeds
    ]
    _check(rows, wanted, output)
    there = {_key(row) for row in rows}
    step = bar(len(wanted), sum(_key(cell) in there for cell in wanted))
    lacking = [cell for cell in wanted if _key(cell) not in there]
    arithmetic = _arithmetic(job, rows) if lacking else ""
    with routed(resident, [(label, pack) for label, pack, _ in packs]):
        for language in served:
            with resident.upstream.remembering_front_end():
                for label, _, _ in columns:
                    cells = [cell for cell in lacking if (cell["b"], cell["pack"]) == (language.name, label)]
                    states = _states(resident, label, language, arithmetic) if cells else {}
                    for cell in cells:
                        found = _fit(language, states, job.head, cell["seed"])
                        rows.append({**cell, **found, "arithmetic": arithmetic})
                        _write(output, rows)
                        step(f"{cell['a']} for {cell['b']}: {100 * found['value']:.1f} %")
    return rows


def _states(resident: Resident, label: str, language: Language, arithmetic: str) -> dict[str, dict[str, Tensor]]:
    """By set, the hidden states of its utterances under a mask."""
    label = FROZEN if label == UNMASKED else label
    return {name: hidden_states(resident, label, getattr(language, name).utts, arithmetic) for name in SETS}


def _fit(language: Language, states: Mapping[str, Mapping], options: HeadOptions, seed: int) -> dict[str, Any]:
    """What a cell has besides its key and settings."""
    train, dev, test = ((states[name], getattr(language, name).utts) for name in SETS)
    fitted = fit_head(train, dev, language.tokens, options, seed)
    value = error_rate(fitted.head, *test, language.tokens)
    return {"value": value, "dev": fitted.dev, "best_update": fitted.update}


# --- what is asked for


def _packs(job: Job, resident: Resident) -> list[tuple[str, MaskPack, str]]:
    """(label, pack, digest) of each source. The label is the route, and for further packs of it their file's name."""
    found: list[tuple[str, MaskPack, str]] = []
    for path, pack in read_sources(job.sources, resident.module, resident.fingerprint):
        if pack.route == UNMASKED:
            raise ConfigError(f"{path}: a route called {UNMASKED} cannot be told from the upstream without a mask")
        label = Path(path).name.removesuffix(".pack")
        if label in {UNMASKED, *(other for other, _, _ in found)}:
            raise ConfigError(f"two packs are called {label}; name each pack once, or rename the file of one")
        found.append((label, pack, _digest(pack)))
    return found


def _digest(pack: MaskPack) -> str:
    """Of everything that a pack changes in the upstream."""
    masks = masks_digest((name, mask.shape, pack_bits(mask)) for name, mask in sorted(pack.masks.items()))
    total = hashlib.blake2b(masks.encode(), digest_size=6)
    for kind in (pack.delta, pack.adapter):
        for name, tensor in sorted(kind.items()):
            total.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.detach().float().cpu().numpy().tobytes())
    return total.hexdigest()


def _served(job: Job, packs: Mapping[str, MaskPack]) -> list[Language]:
    """The languages; all problems of their sets in one error."""
    if not job.places:
        raise ConfigError("no languages to serve; name their sets")
    found, problems = [], []
    for name, places in job.places.items():
        try:
            found.append(_language(name, places, packs.get(name), job.max_test_seconds))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return found


def _language(name: str, places: Mapping[str, Path], pack: MaskPack | None, most: Seconds | None) -> Language:
    if "tokens" in places:
        tokens = TokenIds(read_token_list(places["tokens"]))
    elif pack is not None and pack.tokens is not None:
        tokens = TokenIds(pack.tokens, pack.meta.preprocessing.get("token_type", "char"), pack.bpe_model)
    else:
        raise DataError(f"{name}: no pack brings its tokens; name its token list (--tokens)")
    train, dev, test = (DataDir.read(places[kind]).with_durations() for kind in SETS)
    check_tokens(train, tokens)
    whole = test.seconds
    if most is not None and most < whole:
        test = test.subset(most / 60)
    return Language(name, train, dev, test, whole, tokens)


def _cell(label: str, route: str | None, masks: str, language: Language, seed: int, job: Job) -> dict[str, Any]:
    """Key and settings of a cell, as `COLUMNS` has them."""
    seconds = {f"{kind}_seconds": round(getattr(language, kind).seconds, 1) for kind in SETS}
    return {
        **{"a": route or UNMASKED, "b": language.name, "pack": label, "masks": masks, "seed": seed},
        **{"updates": job.head.updates, "head_lr": job.head.head_lr, "batch_seconds": job.head.batch_seconds},
        **{**seconds, "whole_test_seconds": round(language.whole_test, 1)},
    }


def _arithmetic(job: Job, rows: Sequence[Mapping[str, Any]]) -> str:
    if job.arithmetic != "auto":
        return job.arithmetic
    if rows:  # of one, as was checked: another machine may find the other one faster
        return rows[0]["arithmetic"]
    from s3router.training.arithmetic import choose_arithmetic
    from s3router.upstreams.public import widths

    return choose_arithmetic(job.device, *widths(*backbone_of(job.sources[0], job.upstream, job.ckpt)))


# --- the table


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _KEY)


def _check(rows: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Refuse to mix what is there with cells of other settings, masks or data."""
    cells = {_key(cell): cell for cell in wanted}
    for row in rows:
        cell = cells.get(_key(row))
        now = cell or {name: wanted[0][name] for name in ("updates", "head_lr", "batch_seconds")}
        for name in _SETTINGS:
            if name in now and not math.isclose(float(row[name]), float(now[name]), rel_tol=1e-5):
                raise ConfigError(
                    f"{output}: the cell {row['a']}, {row['b']} was made with {name.replace('_', ' ')} "
                    f"{float(row[name]):g}, now it is {float(now[name]):g}; name another file, or delete this one"
                )
        if cell is not None and row["masks"] != cell["masks"]:
            raise ConfigError(
                f"{output}: the pack {row['pack']} had other masks when the cell {row['a']}, {row['b']} was made; name "
                "another file, or delete this one"
            )


def _check_arithmetic(rows: Sequence[Mapping[str, Any]], asked: str, output: Path) -> None:
    """Refuse a table whose cells would be of two arithmetics."""
    there = sorted({row["arithmetic"] for row in rows})
    if len(there) > 1:
        raise ConfigError(f"{output}: cells of {' and '.join(there)}; delete the lines of one, or name another file")
    if there and asked not in ("auto", *there):
        raise ConfigError(
            f"{output}: its cells were made in {there[0]}, not {asked}; leave --amp-dtype out, or name another file"
        )


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run; none where there is no file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path}: not a table that this command has written; name another file")
        rows = []
        for number, row in enumerate(reader, 2):
            try:
                floats = {name: float(row[name]) for name in ("value", "dev", *_SETTINGS, "whole_test_seconds")}
            except (TypeError, ValueError):
                raise DataError(f"{path}:{number}: damaged; delete the line, or the file") from None
            rows.append({**row, **floats, "updates": int(floats["updates"])})
    return rows


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as file:
        file.write(Table.of(path.stem, list(_ordered(rows))).csv())


def _ordered(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in sorted(rows, key=lambda row: (row["b"], row["a"] != UNMASKED, row["a"], row["pack"], int(row["seed"]))):
        yield {name: row[name] for name in COLUMNS}
