"""Packs of small recognisers and of a classifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.conftest import (  # noqa: F401
    make_upstream,
    route_experiments,
    route_packs,
    small_upstream,
    tokens_file,
    upstream_in_place,
    zygote,
)


@pytest.fixture(scope="session")
def hand_made(make_upstream, tmp_path_factory) -> dict[str, Path]:  # noqa: F811
    """Route -> pack that nobody trained: es and fr write letters, ks labels. Their upstream is ``tiny`` beside them."""
    import torch

    from s3router.masks import MaskConfig, attach, masks_of
    from s3router.packs import MaskPack, PackMeta, write_pack
    from s3router.upstreams import hub

    folder = tmp_path_factory.mktemp("hand_made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3ROUTER_TINY", str(make_upstream(folder / "tiny", seed=0)))
        routed = hub.build(upstream="tiny").eval()
        fingerprint = routed.backbone_fingerprint
    found = {}
    for seed, route in enumerate(("es", "fr", "ks")):
        torch.manual_seed(seed)
        model = hub.build(upstream="auto", ckpt=str(folder / "tiny"))
        attach(model.backbone, MaskConfig(sparsity=0.2, score_init="uniform", seed=seed))
        tokens = None if route == "ks" else ("<blank>", "<unk>", "<space>", *"aeilnorst", "<sos/eos>")
        labels = ("yes", "no", "up") if tokens is None else None
        head = {"weight": torch.randn(len(tokens or labels), 32), "bias": torch.zeros(len(tokens or labels))}
        kind = {"gain_db": 0.0, "minimal_samples": 400} if labels else {"token_type": "char"}
        meta = PackMeta(
            "tiny",
            fingerprint,
            mask={"sparsity": 0.2},
            preprocessing={"sample_rate": 16000, "features": "last", "normalize_features": False, **kind},
            labels=labels,
            corpus="five prompts",
            metrics={"dev": {"accuracy": 0.5} if labels else {"wer": 0.5, "cer": 0.25, "confidence": -1.0}},
            training={"method": "router"},
            licence="CC BY 4.0" if route == "es" else "",
            date="2026-01-02",
        )
        found[route] = folder / f"{route}.pack"
        write_pack(found[route], MaskPack(route, masks_of(model.backbone), {}, {}, head, tokens, meta))
    return found
