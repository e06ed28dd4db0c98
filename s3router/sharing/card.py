"""The README of a repository of packs: HuggingFace's model card, metadata in YAML and a page for people.

What stands in the README besides the generated part is kept, further metadata included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from s3router.errors import PackError
from s3router.files import printable
from s3router.sharing.shared_packs import SharedPack, backbone_words

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

NAME = "README.md"
BEGIN = "<!-- s3router push writes from here -->"
END = "<!-- to here -->"
_GENERATED = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
_METRICS = ("wer", "cer", "per", "accuracy")
_LICENCES = re.compile(
    r"apache-2\.0|mit|cc0-1\.0|cc-by(-nc)?(-nd|-sa)?-[234]\.[05]|a?gpl-3\.0|gpl-2\.0|lgpl-(2\.1|3\.0)|mpl-2\.0|"
    r"bsd-[23]-clause|unlicense|openrail"
)
"""Of HuggingFace's names of licences, those that packs may be expected to have."""


def card(packs: Sequence[SharedPack], repository: str, before: str = "") -> str:
    """The README of these packs.

    Args:
        packs: all that the repository has, at least one.
        before: the README that is there; what it holds besides the generated part stays.

    Raises:
        PackError: the metadata of `before` cannot be read.
    """
    page = "\n".join([BEGIN, *_page(packs, repository), END])
    if not before.strip():
        return f"---\n{_metadata(packs, repository).to_yaml()}\n---\n\n{page}\n"
    old = _read(before, repository)
    # `ModelCard` reads model-index into eval_results, which ours replace
    kept = {key: value for key, value in vars(old.data).items() if key not in ("eval_results", "model_name")}
    # what was written here before and may no longer hold; what its owner has changed since stays
    told = kept.get("s3router")
    wrote = told.get("wrote") if isinstance(told, dict) else None
    for key, value in wrote.items() if isinstance(wrote, dict) else ():
        if key == "tags" and isinstance(kept.get(key), list) and isinstance(value, list):
            kept[key] = [tag for tag in kept[key] if tag not in value]
        elif kept.get(key) == value:
            del kept[key]
    data = _metadata(packs, repository, kept)
    text = old.text.strip("\n")
    text = _GENERATED.sub(lambda _: page, text) if _GENERATED.search(text) else f"{text}\n\n{page}"
    return f"---\n{data.to_yaml()}\n---\n\n{text}\n"


def check_card(packs: Sequence[SharedPack], content: str, where: str) -> None:
    """Hold packs against what their repository's README says of them, if it says anything.

    Args:
        where: the repository, for messages.

    Raises:
        PackError: one of them is for another backbone than the README says, or of another route; the README's metadata
            cannot be read.
    """
    told = vars(_read(content, where).data).get("s3router")
    listed = told.get("packs") if isinstance(told, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    by_file = {entry["file"]: entry for entry in entries if isinstance(entry.get("file"), str)}
    for pack in packs:
        found = {"route": pack.route, "fingerprint": pack.meta.fingerprint}
        said = {key: by_file.get(pack.name, {}).get(key, value) for key, value in found.items()}
        if wrong := [key for key in found if said[key] != found[key]]:
            key = wrong[0]
            raise PackError(
                f"{where}: {pack.name} has {key} {found[key]}, and the README says {said[key]!r}: they do not belong "
                "together. Take another revision, or ask its owner to push it again."
            )


def _read(content: str, repository: str) -> ModelCard:
    """A README that may come from anywhere. Raises PackError where its metadata cannot be read."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        return ModelCard(content, ignore_metadata_errors=True)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise PackError(
            f"{repository}: the metadata at the top of its {NAME} cannot be read ({why}). Mend it on the hub, or take "
            "another revision."
        ) from None


def base_model_of(pack: SharedPack) -> str | None:
    """The repository of the backbone on the hub, where there is one."""
    from s3router.upstreams.public import find_public, presets

    if pack.meta.checkpoint and "/" in pack.meta.checkpoint:
        return pack.meta.checkpoint
    public = find_public(pack.meta.backbone)
    return None if public is None else presets()[public.name].get("huggingface", {}).get("ckpt")


def _metadata(packs: Sequence[SharedPack], repository: str, kept: dict[str, Any] | None = None) -> ModelCardData:
    from huggingface_hub import ModelCardData

    results = [result for pack in packs for result in _results(pack)]
    metrics = [name for name in _METRICS if any(result.metric_type == name for result in results)]
    writes = any(pack.meta.labels is None for pack in packs)
    base = base_model_of(packs[0])
    told = [{"file": p.name, "route": p.route, "fingerprint": p.meta.fingerprint} for p in packs]
    tags = ["s3router", "speech", *sorted({pack.method for pack in packs})]
    changing = {
        "language": sorted({pack.language for pack in packs if pack.language}) or None,
        **_licence(packs),
        "base_model": base,
        "metrics": metrics or None,
        "tags": tags,
    }
    values = {
        **changing,
        "library_name": "s3router",
        "pipeline_tag": "automatic-speech-recognition" if writes else "audio-classification",
        "base_model_relation": "adapter" if base else None,
        "tags": [*tags, *(tag for tag in (kept or {}).get("tags") or () if tag not in tags)],
        "eval_results": results or None,
        "model_name": repository.rsplit("/", 1)[-1] if results else None,
        "s3router": {
            **{"backbone": packs[0].meta.backbone, "packs": told},
            "wrote": {key: value for key, value in changing.items() if value is not None},
        },
    }
    return ModelCardData(**{**(kept or {}), **{key: value for key, value in values.items() if value is not None}})


def _licence(packs: Sequence[SharedPack]) -> dict[str, str]:
    """HuggingFace's ``license``; none where a pack does not say its own, ``other`` where they differ."""
    given = {pack.meta.licence for pack in packs}
    if "" in given:
        return {}
    names = {re.sub(r"[\s_]+", "-", licence.strip().lower()) for licence in given}
    name = next(iter(names))
    if len(names) == 1 and _LICENCES.fullmatch(name):
        return {"license": name}
    return {"license": "other", "license_name": name if len(names) == 1 else "several", "license_link": NAME}


def _results(pack: SharedPack) -> list[EvalResult]:
    """Error rates and accuracies in percent, as the hub's tables have them."""
    from huggingface_hub import EvalResult

    task = "automatic-speech-recognition" if pack.meta.labels is None else "audio-classification"
    corpus = printable(pack.meta.corpus) or "not given"
    return [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^\w.-]+", "-", corpus.lower()).strip("-"),
            dataset_name=f"{corpus} ({pack.route})",
            dataset_split=name,
            metric_type=metric,
            metric_name=f"{metric.upper() if metric != 'accuracy' else metric} %",
            metric_value=round(100 * values[metric], 2),
        )
        for name, values in pack.meta.metrics.items()
        for metric in _METRICS
        if metric in values
    ]


def _page(packs: Sequence[SharedPack], repository: str) -> list[str]:
    meta, routes = packs[0].meta, ", ".join(pack.route for pack in packs)
    writes = [pack.route for pack in packs if pack.meta.labels is None]
    labels = [pack.route for pack in packs if pack.meta.labels is not None]
    address = f"{repository}@main"
    lines = [
        f"# {repository.rsplit('/', 1)[-1]}: {routes} on {backbone_words(meta)}",
        "",
        f"Packs of s3router: what each language or task adds to a speech model, {_backbone(packs)}, which stays "
        "as it was published.",
        "",
        *_table(packs),
        "",
        "## Use",
        "",
        "```sh",
        f"s3router pull {address}                 # prints the commit, to pin in the place of main",
        *([f"s3router transcribe --routes {address} --lang {_choice(writes)} a.wav"] if writes else []),
        *([f"s3router classify --routes {address} --route {labels[0]} a.wav"] if labels else []),
        "```",
        "",
        "```python",
        "import s3router",
        "",
        f'router = s3router.Router.from_pretrained("{repository}", revision="main")',
        *([f'print(router.transcribe("a.wav", route="{_choice(writes)}").text)'] if writes else []),
        *([f'print(router.classify("a.wav", route="{labels[0]}").label)'] if labels else []),
        "```",
        "",
        "The backbone is fetched by its name where it is public. It has to have the fingerprint in the table: a",
        "pack is refused on any other.",
    ]
    return lines


def _choice(routes: Sequence[str]) -> str:
    return routes[0] if len(routes) == 1 else "auto"


def _backbone(packs: Sequence[SharedPack]) -> str:
    base = base_model_of(packs[0])
    named = f"`{backbone_words(packs[0].meta)}`"
    return f"{named} ([{base}](https://huggingface.co/{base}))" if base else named


def _table(packs: Sequence[SharedPack]) -> list[str]:
    head = [
        "file",
        "route",
        "language",
        "method",
        "trained on",
        "metrics",
        "licence",
        "bytes",
        "fingerprint",
    ]
    rows = []
    for pack in packs:
        figures = [f"{r.dataset_split} {r.metric_name[:-2]} {r.metric_value:g} %" for r in _results(pack)]
        rows.append(
            [
                *(pack.name, pack.route, pack.language or "–", _method(pack)),
                *(pack.meta.corpus or "not given", ", ".join(figures) or "not given", pack.meta.licence or "not given"),
                *(f"{sum(pack.figures['bytes'].values()):,}", f"`{pack.meta.fingerprint}`"),
            ]
        )
    rule = ["---:" if name == "bytes" else "---" for name in head]
    return [f"| {' | '.join(map(_cell, row))} |" for row in (head, rule, *rows)]


def _method(pack: SharedPack) -> str:
    masks = pack.figures["masks"]
    return f"{pack.method}, {masks['sparsity']:.1%} of weights removed" if masks["removed"] else pack.method


def _cell(text: str) -> str:
    """One cell of a table; what packs say may come from anywhere, and is no markup here."""
    return re.sub(r"([|<>\[\]\\])", r"\\\1", printable(text))
