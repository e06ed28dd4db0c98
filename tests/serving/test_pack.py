"""From an experiment to a pack by the command, and what the page about it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from s3router import cli
from s3router.asr.ctc_decode import emissions
from s3router.asr.experiment import ASRExperiment
from s3router.data.recordings import find_recordings
from s3router.masks import masks_of
from s3router.packs import read_pack
from s3router.serving.langid import store_confidence, usual_confidence
from s3router.serving.loading import load_routes
from s3router.upstreams.digest import bare_backbone
from s3router.upstreams.hub import load_expert

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def here(small_upstream):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the fixture's paths start there
        patch.setenv("S3ROUTER_TINY", str(small_upstream))
        yield


@pytest.fixture(scope="module")
def exp(zygote, here, tmp_path_factory) -> Path:
    """Masks in the second layer only, at 30 %, with layer norms trained along; "decoded" with two checkpoints."""
    options = ["--sparsity", "0.3", "--mask_conf", "layers=[1]", "--mask_conf", "train=[layer_norm]"]
    folder = zygote.run(tmp_path_factory.mktemp("exp") / "it", *options).exp
    for name, checkpoint, cer in (("dev", "", 0.5), ("test", "", 0.6), ("other", "exp/it/latest.pth", 0.1)):
        (folder / f"decode_{name}").mkdir()
        result = {"wer": 1.0, "cer": cer, "n_utts": 5, "checkpoint": checkpoint}
        (folder / f"decode_{name}" / "result.json").write_text(json.dumps(result))
    return folder


def test_many_at_once(exp, tmp_path, capsys):
    assert cli.main(["pack", f"it={exp}", f"xx={exp}", "-o", str(tmp_path / "packs")]) == 0
    assert cli.main(["pack", str(exp), "-o", str(tmp_path / "xx.pack")]) == 0
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["it.pack", "xx.pack"]
    one, other = (read_pack(folder / "xx.pack") for folder in (tmp_path / "packs", tmp_path))
    assert (one.route, list(one.masks)) == (other.route, list(other.masks))
    for words, message in (
        ([f"it={exp}", str(exp), "-o", str(tmp_path / "packs")], "expected ROUTE=DIR"),
        ([f"it={exp}", f"xx={exp}", "-o", str(tmp_path / "x.pack")], "the packs' folder is wanted"),
        ([f"it={exp}", f"xx={exp}", "-o", str(tmp_path / "packs"), "--route", "it"], "are for one experiment"),
    ):
        assert cli.main(["pack", *words]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("codec", ["bits", "coded"])
def test_the_command_packs_what_was_learnt(exp, tmp_path, capsys, codec):
    command = ["pack", str(exp), "-o", str(tmp_path / "it.pack"), "--codec", codec, "--metric", "test:cer=0.25"]
    assert cli.main([*command, "--licence", "CC0-1.0"]) == 0
    model, tokens = ASRExperiment(exp).model(), ASRExperiment(exp).token_list
    backbone = load_expert("tiny", None).model
    pack = read_pack(tmp_path / "it.pack", backbone)
    masks = masks_of(bare_backbone(model))
    assert list(pack.masks) == list(masks) == [f"encoder.layers.1.feed_forward.{n}_dense.weight" for n in NAMES]
    assert all(torch.equal(mask, masks[name]) for name, mask in pack.masks.items())
    assert torch.equal(pack.head["weight"], model.ctc.ctc_lo.weight)
    assert torch.equal(pack.featurizer["weights"], model.frontend.featurizer.weights)
    trained = dict(bare_backbone(model).named_parameters())
    changed = {n for n, p in backbone.named_parameters() if n in trained and not torch.equal(p, trained[n])}
    assert "encoder.layers.0.layer_norm.weight" in changed
    assert changed <= pack.delta.keys()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in pack.delta.items())
    assert pack.tokens == tuple(tokens)
    assert pack.meta.metrics == {
        "dev": {"wer": 1.0, "cer": 0.5, "n_utts": 5},
        "test": {"wer": 1.0, "cer": 0.25, "n_utts": 5},
    }
    assert (pack.route, pack.meta.licence, pack.meta.corpus) == ("it", "CC0-1.0", "fixtures/five")
    page = capsys.readouterr().out
    assert "route it" in page
    assert "sparsity 0.2998" in page  # rounded down in each matrix of 2,048
    assert "cer 0.25" in page


NAMES = ("intermediate", "output")


def test_the_command_names_another_checkpoint_and_its_metrics(exp, tmp_path):
    command = ["pack", str(exp), "-o", str(tmp_path / "x.pack"), "--route", "it", "--checkpoint", "latest.pth"]
    assert cli.main(command) == 0
    pack = read_pack(tmp_path / "x.pack")
    assert pack.meta.metrics == {"other": {"wer": 1.0, "cer": 0.1, "n_utts": 5}}
    assert torch.equal(pack.head["bias"], ASRExperiment(exp).model("latest.pth").ctc.ctc_lo.bias)


def test_inspect(exp, tmp_path, capsys):
    for codec in ("bits", "coded"):
        assert cli.main(["pack", str(exp), "-o", str(tmp_path / codec), "--codec", codec]) == 0
    files = [str(tmp_path / "bits"), str(tmp_path / "coded")]
    capsys.readouterr()
    assert cli.main(["inspect", "--json", *files]) == 0
    bits, coded = json.loads(capsys.readouterr().out)
    assert sum(bits["bytes"].values()) == Path(files[0]).stat().st_size
    assert sum(coded["bytes"].values()) == Path(files[1]).stat().st_size
    assert bits["masks"]["bits_per_weight"] == 1
    assert coded["masks"]["removed"] == bits["masks"]["removed"] == 2 * 614
    assert bits["masks"]["by_layer_and_role"] == [{"layer": 1, "ffn": 614 / 2048}]
    assert 0 < coded["masks"]["bits_per_weight"] < 1
    assert bits["masks"]["plain_entropy"] == pytest.approx(0.8811, abs=1e-3)
    assert cli.main(["inspect", "--table", *files]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].endswith("| bytes | dev WER % | test WER % |")
    assert rows[2].startswith("| bits | bits | router | bits | 0.300 | 0.005 | 1.0000 | 0.8811 | ")
    assert cli.main(["inspect", str(tmp_path / "none.pack")]) == 1
    assert "no such pack" in capsys.readouterr().err


def test_packing_again_keeps_the_calibration_of_the_same_model(exp, tmp_path, capsys):
    path = tmp_path / "packs" / "it.pack"  # the folder is made
    assert cli.main(["pack", str(exp), "-o", str(path)]) == 0
    five = ROOT / "tests" / "fixtures" / "five"
    model = load_routes([path])
    with torch.no_grad():
        model.ctc_head("it").bias[0] = -1e4  # this one writes something
    store_confidence(path, usual_confidence(model, "it", find_recordings([five])), model)
    stored = read_pack(path).meta.metrics["five"]["confidence"]
    capsys.readouterr()
    assert cli.main(["pack", str(exp), "-o", str(path)]) == 0
    assert "kept of the pack that was there: usual confidence" in capsys.readouterr().out
    assert read_pack(path).meta.metrics["five"]["confidence"] == stored
    assert cli.main(["pack", str(exp), "-o", str(path), "--checkpoint", "latest.pth"]) == 0  # another model
    assert "measure it again: s3router langid" in capsys.readouterr().err
    assert "five" not in read_pack(path).meta.metrics


def test_a_recogniser_with_an_adapter(zygote, here, tmp_path, capsys):
    options = ["--method", "dora", "--adapter_lr", "1e-2", "--max_updates", "3"]
    exp = zygote.run(tmp_path / "exp", *options).exp
    for name, wide in (("half", []), ("wide", ["--float32"])):
        assert cli.main(["pack", str(exp), "-o", str(tmp_path / f"{name}.pack"), *wide]) == 0
    assert "adapter      dora (scale 2.0), " in capsys.readouterr().out
    model = load_routes([tmp_path / "half.pack", tmp_path / "wide.pack"])
    wave = 0.1 * torch.randn(12345, generator=torch.Generator().manual_seed(5))
    half, wide = (model.log_probs([wave], route)[0] for route in ("half", "wide"))
    wanted, _ = emissions(ASRExperiment(exp).model(), [wave.numpy()])
    torch.testing.assert_close(wide, wanted[0, : len(wide)], atol=1e-4, rtol=0)
    torch.testing.assert_close(half, wide, atol=2e-2, rtol=0)
    sizes = [(tmp_path / f"{name}.pack").stat().st_size for name in ("half", "wide")]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda exp: (exp / "config.yaml").unlink(), "no experiment in it"),
        (lambda exp: (exp / "config.yaml").write_text("a: b"), "not a configuration of s3router train"),
        (lambda exp: ASRExperiment(exp).best().unlink(), "no such checkpoint"),
        (lambda exp: (exp / "decode_dev/result.json").write_text("{"), "decode_dev/result.json: damaged"),
        (lambda exp: _replace(exp, "method: router", "method: scratch"), "no backbone that it shares with others"),
    ],
)
def test_experiments_that_cannot_be_packed(exp, tmp_path, capsys, edit, message):
    shutil.copytree(exp, tmp_path / "exp", symlinks=True)
    edit(tmp_path / "exp")
    assert cli.main(["pack", str(tmp_path / "exp"), "-o", str(tmp_path / "x.pack")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.pack").exists()


def _replace(exp: Path, old: str, new: str) -> None:
    path = exp / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("metric", ["cer=1", "test:cer", "test:cer=x", "test:cer=nan", ":cer=1", "test:=1"])
def test_metrics_of_another_form(metric, tmp_path, capsys):
    assert cli.main(["pack", "exp", "-o", str(tmp_path / "x"), "--metric", metric]) == 1
    assert "expected SET:NAME=VALUE" in capsys.readouterr().err
