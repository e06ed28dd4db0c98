"""A training that starts at masks of others."""

from __future__ import annotations

import shutil

import torch

from s3router.asr.experiment import ASRExperiment
from s3router.cli import main
from s3router.packs import read_pack


def test_it_is_kept_and_recorded(zygote, small_upstream, tmp_path, monkeypatch):
    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    other = zygote.run(tmp_path / "other", "--sparsity", "0.2", "--score_lr", "0.1", "--max_updates", "2").exp
    pack = tmp_path / "packs" / "other.pack"
    assert main(["pack", str(other), "--route", "other", "-o", str(pack)]) == 0
    options = ("--sparsity", "0.2", "--score_lr", "0", "--max_updates", "2", "--mask_conf")  # the mask stays
    exp = zygote.run(tmp_path / "new", *options, f"start_packs=[{pack}]").exp
    again = zygote.run(exp, *options, "start_packs=[]", status=1)
    assert "--mask_conf was {'start_packs': " in again.screen
    shutil.rmtree(pack.parent)  # a finished training needs it no more
    kept = tmp_path / "new.pack"
    assert main(["pack", str(exp), "--route", "new", "-o", str(kept)]) == 0
    assert ASRExperiment(exp).parts().mask["start_packs"] == [str(pack)]
    assert read_pack(kept).meta.mask["start_packs"] == ["other.pack"]
    found, expected = read_pack(kept).masks, ASRExperiment(other).parts().masks
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    plain = zygote.run(tmp_path / "plain", *options[:-1]).exp
    assert any(not torch.equal(mask, expected[name]) for name, mask in ASRExperiment(plain).parts().masks.items())
    missing = zygote.run(tmp_path / "missing", *options, f"start_packs=[{pack}]", status=1)
    assert f"start_packs: {pack}: no such file" in missing.screen
