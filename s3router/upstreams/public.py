"""Public upstreams by name: the catalogue in conf/upstreams, their files, downloads and copies."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3router.errors import CheckpointError, ConfigError
from s3router.files import unfinished
from s3router.upstreams.download import Ledger, RemoteFile, fetch_file, locked, put_in_place
from s3router.upstreams.formats import read_any
from s3router.upstreams.huggingface import HuggingFaceUpstream
from s3router.upstreams.plain_model import FAIRSEQ_EPS
from s3router.upstreams.whisper import WhisperUpstream

CONF = Path(__file__).parent / "catalogue"  # in a clone, a link to conf/upstreams
FOLDER_VARIABLE = "S3ROUTER_UPSTREAMS"
FORMATS = ("s3prl", "fairseq", "wavlm", "openai", "ctranslate2", "huggingface", "torchaudio")
BASE = {"width": 768, "ffn": 3072}
_FOLDER_FILES = ("config.json", "preprocessor_config.json", "pytorch_model.bin")
_TORCHAUDIO = "https://download.pytorch.org/torchaudio/models/"


@dataclass(frozen=True)
class PublicUpstream:
    """One entry of conf/upstreams.

    Args:
        name: what ``--upstream`` takes.
        aliases: further names for it.
        family: model_type of transformers.
        files: format -> the files of it; the first is downloaded where nothing is there yet.
        bundle: name of the torchaudio bundle, where there is one.
        parameters_million: without heads of pretraining.
        normalize: whether waveforms were normalised in pretraining; None: as the files say.
        size: of the model: layers, width, ffn, heads, conv_width; of a Whisper vocabulary, too.
        tokenizer: the tokenizer.json of a Whisper's vocabulary, in one entry for every vocabulary.
        alignment_heads: [layer, head] of a Whisper's decoder that follow the speech.
    """

    name: str
    aliases: tuple[str, ...]
    family: str
    files: Mapping[str, tuple[RemoteFile, ...]]
    bundle: str | None
    parameters_million: float
    normalize: bool | None = None
    size: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: RemoteFile | None = None
    alignment_heads: Sequence[Sequence[int]] = ()

    def place(self, kind: str) -> Path:
        """Where a format's files belong."""
        return upstreams_folder() / self.name / kind

    def present(self) -> list[str]:
        """The formats that are there as a whole."""
        return [kind for kind in self.files if all((self.place(kind) / f.name).is_file() for f in self.needed(kind))]

    def needed(self, kind: str, folder: Path | None = None) -> tuple[RemoteFile, ...]:
        """The files of a format; model.safetensors instead of pytorch_model.bin where ``folder`` (its place) has it."""
        safe = (folder or self.place(kind)) / "model.safetensors"
        if kind != "huggingface" or not safe.is_file():
            return self.files[kind]
        *settings, weights = self.files[kind]
        return (*settings, RemoteFile(weights.url.replace(weights.name, safe.name)))


def upstreams_folder() -> Path:
    """Where checkpoints are kept: the environment variable S3ROUTER_UPSTREAMS, else ~/.cache/s3router/upstreams."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "s3router" / "upstreams").expanduser()


@functools.cache
def presets() -> dict[str, dict[str, Any]]:
    """name -> what its file in the catalogue says, in the order of the names; `tiny`, which ships, is one of them."""
    import yaml

    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONF.glob("*.yaml"))]
    return {content["upstream"]: content for content in contents}


@functools.cache
def catalogue() -> dict[str, PublicUpstream]:
    """name -> entry, in the order of the names; those that are downloaded, so `tiny` is none of them."""
    return {name: _entry(content) for name, content in presets().items() if "files" in content}


def widths(upstream: str, ckpt: str | None = None) -> tuple[int, int]:
    """Widths of an upstream's layers and of their feed-forward modules, as far as they are known without loading it.

    Args:
        upstream: a name of the catalogue; of others a base model's widths are given.
        ckpt: where this is a HuggingFace folder, its ``config.json`` decides.
    """
    config = Path(ckpt, "config.json") if ckpt else None
    if config is not None and config.is_file():
        size = json.loads(config.read_text(encoding="utf-8"))
        width = size.get("hidden_size") or size.get("d_model")  # the second is Whisper's
        ffn = size.get("intermediate_size") or size.get("encoder_ffn_dim")
        return width or BASE["width"], ffn or BASE["ffn"]
    public = find_public(upstream)
    size = presets().get(upstream if public is None else public.name, {}).get("size", BASE)
    return size["width"], size["ffn"]


def find_public(name: str) -> PublicUpstream | None:
    """The entry of that name or alias, or None."""
    entries = catalogue()
    return entries.get(name) or next((entry for entry in entries.values() if name in entry.aliases), None)


def _entry(content: dict[str, Any]) -> PublicUpstream:
    files: dict[str, tuple[RemoteFile, ...]] = {}
    for kind, described in content["files"].items():
        if kind not in FORMATS:
            raise ConfigError(f"{CONF}: {content['upstream']}: format {kind!r} is none of {', '.join(FORMATS)}.")
        if kind == "huggingface":
            repository = content["huggingface"]
            base = f"https://huggingface.co/{repository['ckpt']}/resolve/{repository.get('revision', 'main')}/"
            known = described or {}
            files[kind] = tuple(RemoteFile(base + name, **known.get(name, {})) for name in _FOLDER_FILES)
        elif kind == "torchaudio":
            described = {"file": described} if isinstance(described, str) else dict(described)
            files[kind] = (RemoteFile(_TORCHAUDIO + described.pop("file"), **described),)
        else:
            files[kind] = (RemoteFile(**({"url": described} if isinstance(described, str) else described)),)
    return PublicUpstream(
        content["upstream"],
        tuple(content.get("aliases", ())),
        content["family"],
        files,
        content.get("bundle"),
        content["size"]["parameters_million"],
        content.get("normalize"),
        content["size"],
        RemoteFile(**content["tokenizer"]) if "tokenizer" in content else None,
        content.get("alignment_heads", ()),
    )


def fetch_tokenizer(vocabulary: int, refresh: bool = False) -> Path:
    """The local tokenizer.json of the public Whispers with a vocabulary of this size, checked; downloaded if need be.

    Raises:
        CheckpointError: no public Whisper has such a vocabulary, or the file cannot be had, or is not the right one.
    """
    beside = "put the tokenizer.json of your model beside its checkpoint"
    for entry in catalogue().values():
        if entry.tokenizer is not None and entry.size["vocabulary"] == vocabulary:
            target = upstreams_folder() / entry.name / entry.tokenizer.name
            what = f"tokenizer of {entry.name}"
            return fetch_file(entry.tokenizer, target, Ledger(upstreams_folder()), what, refresh, beside)
    raise CheckpointError(f"no public Whisper has a vocabulary of {vocabulary} tokens: {beside}.")


def fetch(public: PublicUpstream, kind: str | None = None, copy: Path | None = None, refresh: bool = False) -> Path:
    """The local file (or folder) of an upstream, checked; downloaded where it is not there.

    Args:
        kind: which format; None: one that is there, else the first of the entry.
        copy: a local file (or HuggingFace folder) to take instead of the download; it is copied into place.
        refresh: download again.

    Raises:
        CheckpointError: it cannot be had, or is not the right file.
        ConfigError: there is no such format for this upstream.
    """
    if kind is None:
        kind = next(iter([] if refresh or copy else public.present()), None) or next(iter(public.files))
    if kind not in public.files:
        raise ConfigError(f"upstream {public.name}: no format {kind!r}. Known: {', '.join(public.files)}.")
    place, ledger = public.place(kind), Ledger(upstreams_folder())
    if copy is not None:
        _take(copy, place, public.needed(kind, copy), ledger)
    for remote in public.needed(kind):
        fetch_file(remote, place / remote.name, ledger, f"upstream {public.name}", refresh and copy is None)
    return place if kind == "huggingface" else place / public.files[kind][0].name


def local_copy(source: str, refresh: bool = False) -> str:
    """A checkpoint's address -> the file that it was downloaded to (see `fetch_file`); anything else stays as it is."""
    if not source.startswith(("http://", "https://")):
        return source
    remote = RemoteFile(source)
    place = upstreams_folder() / "by_address" / hashlib.sha256(source.encode()).hexdigest()[:12]
    return str(fetch_file(remote, place / remote.name, Ledger(upstreams_folder()), "upstream", refresh))


def _take(copy: Path, place: Path, files: tuple[RemoteFile, ...], ledger: Ledger) -> None:
    sources = [copy / remote.name for remote in files] if len(files) > 1 else [copy]
    for source, remote in zip(sources, files, strict=True):
        if not source.is_file():
            raise CheckpointError(f"{source}: no such file; expected {' and '.join(f.name for f in files)}.")
        target = place / remote.name
        with locked(target):
            draft = unfinished(target)
            try:
                shutil.copyfile(source, draft)
                with draft.open("rb") as stream:
                    os.fsync(stream.fileno())
                put_in_place(draft, target, ledger, remote)
            finally:
                draft.unlink(missing_ok=True)


def load_public(
    public: PublicUpstream, ckpt: str | None = None, refresh: bool = False, random_init: bool = False
) -> HuggingFaceUpstream | WhisperUpstream:
    """The upstream itself, from ``ckpt`` (any format; nothing is downloaded then) or from `fetch`.

    Waveforms are normalised as in pretraining, whichever format the weights are read from. (A HuggingFace folder
    may say otherwise: transformers' default is to normalise, base models with group norm were pretrained without.)

    Raises:
        CheckpointError: as `fetch` and `read_any`; the checkpoint is of another family or of another size.
    """
    source = local_copy(ckpt, refresh) if ckpt is not None else str(fetch(public, refresh=refresh))
    model = read_any(source, public.bundle, weights=not random_init)
    refuse_another(public, model.family, model.sizes(), model.source)
    if model.source.is_dir() and public.normalize is not None:  # files say it themselves
        model = replace(model, normalize=public.normalize)
    return replace(model, normalize_eps=FAIRSEQ_EPS).upstream(random_init)


def refuse_another(public: PublicUpstream, family: str, found: Mapping[str, int], source: Path) -> None:
    """A public name stands for one architecture, whatever the checkpoint given with it.

    Args:
        family: of the checkpoint, and ``found`` its sizes, as the catalogue's files call them.

    Raises:
        CheckpointError: they are not those of ``public``.
    """
    if family != public.family and {family, public.family} != {"hubert", "wav2vec2"}:
        raise CheckpointError(f"{source}: a {family} model, but upstream {public.name} is {public.family}.")
    wrong = [key for key, size in found.items() if public.size.get(key, size) != size]
    if wrong:
        raise CheckpointError(
            f"{source}: not {public.name}: {', '.join(f'{key} {found[key]}' for key in wrong)} instead of "
            f"{', '.join(f'{key} {public.size[key]}' for key in wrong)}. Give the checkpoint of {public.name}, or load "
            f"this one as what it is: --upstream auto --upstream-ckpt {source}."
        )
