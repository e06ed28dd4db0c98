"""Baked models give what the masked ones give, without s3router."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from s3router import cli
from s3router.asr.ctc_decode import emissions
from s3router.asr.experiment import ASRExperiment
from s3router.data.audio import write_audio
from s3router.data.tokens import TokenIds
from s3router.errors import CheckpointError, ConfigError, PackError
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.packs.fingerprint import weights_hash
from s3router.packs.merging import merge
from s3router.serving import baked_model
from s3router.serving.loading import load_routes
from s3router.upstreams.hub import load_expert
from tests.upstreams import conftest as models
from tests.upstreams.test_adapter_routes import SETTINGS, random_adapter

TOKENS = ("<blank>", "<unk>", "<space>", "a", "é", "<sos/eos>")


def make_pack(model: nn.Module, upstream: str, **preprocessing) -> MaskPack:
    """Half of every feed-forward weight removed, one bias changed, a random head."""
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    names = [n for n in state if n.endswith(("dense.weight", "fc1.weight", "fc2.weight"))]
    bias = next(n for n in state if n.endswith(("intermediate_dense.bias", "fc1.bias")))
    width = state[names[0]].shape[1]
    settings = {"sample_rate": 16000, "features": "weighted", "normalize_features": False, "token_type": "char"}
    settings |= preprocessing
    weighted = settings["features"] == "weighted"
    return MaskPack(
        route="xx",
        masks={n: torch.rand(state[n].shape, generator=generator) > 0.5 for n in names},
        delta={bias: torch.randn(state[bias].shape, generator=generator)},
        featurizer={"weights": torch.randn(3, generator=generator)} if weighted else {},
        head={"weight": torch.randn(6, width, generator=generator), "bias": torch.randn(6, generator=generator)},
        tokens=TOKENS,
        meta=PackMeta(upstream, weights_hash(model), preprocessing=settings, corpus="noise", date="2026-01-31"),
    )


def expected(folder: Path, pack: MaskPack, wave: torch.Tensor) -> torch.Tensor:
    """The slow way: zeros written by hand, layers summed one by one. (1, samples) -> (frames, tokens)"""
    model = load_expert("hf_hubert_custom", str(folder)).model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(pack.delta.get(name, parameter) * pack.masks.get(name, torch.ones(())))
        wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        output = model(wave, output_hidden_states=True)
    hidden = [*output.hidden_states[:-1], output.last_hidden_state]
    settings = pack.meta.preprocessing
    if settings["normalize_features"]:
        hidden = [nn.functional.layer_norm(h, h.shape[-1:]) for h in hidden]
    features = hidden[-1]
    if settings["features"] == "weighted":
        features = sum(w * h for w, h in zip(pack.featurizer["weights"].softmax(0), hidden, strict=True))
    return (features @ pack.head["weight"].T + pack.head["bias"]).log_softmax(-1)[0]


@pytest.fixture
def wave() -> torch.Tensor:
    return 0.1 * torch.randn(1, 12345, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def bake(small_upstream, tmp_path):
    """preprocessing -> the baked folder and the pack, by the command, in both codecs alike."""

    def make(*options: str, **preprocessing) -> tuple[Path, MaskPack]:
        model = load_expert("hf_hubert_custom", str(small_upstream)).model
        pack = make_pack(model, "hf_hubert_custom", **preprocessing)
        write_pack(tmp_path / "xx.pack", pack, "coded", model)
        command = [
            "bake",
            str(tmp_path / "xx.pack"),
            "--backbone-ckpt",
            str(small_upstream),
            "-o",
            str(tmp_path / "baked"),
        ]
        assert cli.main([*command, *options]) == 0
        return tmp_path / "baked", pack

    return make


@pytest.mark.parametrize("normalize", [False, True])
def test_weighted_layers(bake, small_upstream, wave, capsys, normalize):
    folder, pack = bake(features="weighted", normalize_features=normalize)
    assert "transformers.AutoModel, its head, and a program that joins them" in capsys.readouterr().out
    found = baked_model.CTC.load(folder)(wave)[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, wave), atol=1e-4, rtol=0)


def test_the_copied_module_needs_no_s3router(bake, small_upstream, wave):
    folder, pack = bake()
    code = "import sys, torch, ctc; torch.save(ctc.CTC.load('.')(torch.load('wave.pt')), 'out.pt')"
    code += "; sys.exit(any(name.startswith('s3') for name in sys.modules))"
    torch.save(wave, folder / "wave.pt")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = torch.load(folder / "out.pt")[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, wave), atol=1e-4, rtol=0)


def test_the_copied_program_explains_itself_and_its_errors(bake, tmp_path):
    folder, _ = bake()
    five = Path(__file__).parents[1] / "fixtures" / "five" / "audio"
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    for given, status, said in (
        ("--help", 0, "usage: ctc.py"),
        (tmp_path / "none.wav", 1, "none.wav: cannot be read"),
        (tmp_path / "broken.wav", 1, "broken.wav: cannot be read"),
        (next(five.iterdir()), 0, ".flac"),
    ):
        done = subprocess.run([sys.executable, folder / "ctc.py", given], capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr


def test_the_last_layer_is_a_ctc_model_of_transformers(bake, small_upstream, wave):
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    folder, pack = bake(features="last")
    inputs = AutoFeatureExtractor.from_pretrained(folder)(wave[0].numpy(), sampling_rate=16000, return_tensors="pt")
    model = AutoModelForCTC.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(inputs["input_values"]).logits.log_softmax(-1)[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, wave), atol=1e-4, rtol=0)
    assert AutoTokenizer.from_pretrained(folder).decode([3, 3, 0, 3, 2, 2, 4, 0]) == "aa é"


def test_the_last_layer_normalised_is_none(bake, small_upstream, wave):
    folder, _ = bake(features="last", normalize_features=True)
    assert (folder / "ctc.py").is_file()


def test_text_of_the_copied_module_is_ours(bake):
    ids = [3, 3, 0, 3, 2, 2, 4, 5, 1]
    log_probs = nn.functional.one_hot(torch.tensor(ids), 6).float().log()
    for token_type in ("char", "phn"):
        ours = TokenIds(TOKENS, token_type).decode([3, 3, 2, 4, 5, 1])
        assert baked_model.text_of(log_probs, list(TOKENS), token_type) == ours


def test_onnx(bake, small_upstream, wave):
    onnxruntime = pytest.importorskip("onnxruntime", reason="tools/setup.sh --with-onnx")
    folder, pack = bake("--onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"wave": wave.numpy()})[0])[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, wave), atol=1e-3, rtol=0)


def test_onnx_that_differs_is_refused(tmp_path):
    pytest.importorskip("onnxruntime", reason="tools/setup.sh --with-onnx")
    from s3router.serving.onnx_export import export

    class Traced(nn.Module):
        def forward(self, wave):
            return wave * float(wave.shape[1])  # a constant in the trace

    with pytest.raises(CheckpointError, match="ONNX differs from torch"):
        export(Traced(), tmp_path / "model.onnx", 1e-3)


@pytest.mark.parametrize(
    ("upstream", "norm", "onnx"),
    [
        ("hf_wav2vec2_custom", "group", False),
        ("hf_wav2vec2_custom", "layer", True),
        ("hf_wavlm_custom", "group", True),
        ("hf_data2vec_custom", "layer", False),
        ("hf_unispeech_custom", "layer", False),
        ("hf_unispeech_sat_custom", "group", True),
        ("hf_conformer_custom", "group", False),
        ("hf_conformer_custom", "layer", True),
    ],
)
def test_every_family(tmp_path, upstream, norm, onnx):
    """The command itself holds what it writes against the router."""
    if onnx:
        pytest.importorskip("onnxruntime", reason="tools/setup.sh --with-onnx")
    folder = models.save_hf(models.hf_model(upstream, norm), tmp_path / "model")
    model = load_expert(upstream, str(folder)).model
    layers = model.config.num_hidden_layers + 1
    pack = make_pack(model, upstream, features="last" if norm == "group" else "weighted")
    if pack.featurizer:
        pack.featurizer["weights"] = torch.linspace(-1, 1, layers)
    write_pack(tmp_path / "xx.pack", pack)
    command = ["bake", str(tmp_path / "xx.pack"), "--backbone-ckpt", str(folder), "-o", str(tmp_path / "baked")]
    assert cli.main([*command, *(["--onnx"] if onnx else [])]) == 0


def bake_on(checkpoint: Path, folder: Path, *options: str) -> int:
    """The command, of the pack that lies beside the folder."""
    pack = folder.parent / "xx.pack"
    return cli.main(["bake", str(pack), "--backbone-ckpt", str(checkpoint), "-o", str(folder), *options])


def test_an_upstream_of_s3prl(tmp_path, capsys):
    torch.save(models.s3prl_state("hubert_custom"), tmp_path / "model.pt")
    model = load_expert("hubert_custom", str(tmp_path / "model.pt")).model
    pack = make_pack(model, "hubert_custom")
    write_pack(tmp_path / "xx.pack", pack)
    assert bake_on(tmp_path / "model.pt", tmp_path / "b") == 0
    baked = load_expert("hubert_custom", str(tmp_path / "b" / "model.pt")).model.state_dict()
    for name, weight in model.state_dict().items():
        wanted = pack.delta.get(name, weight) * pack.masks.get(name, torch.ones(()))
        assert torch.equal(baked[name], wanted.to(baked[name].dtype)), name
    assert bake_on(tmp_path / "model.pt", tmp_path / "c", "--onnx") == 1
    assert "--onnx: upstream hubert_custom is not one of transformers" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("method", ["weight", "scratch"])
def test_finetuned_weights(zygote, upstream_in_place, tmp_path, capsys, method, wave):
    """A folder without masks gives what the trained model gives."""
    exp = zygote.run(tmp_path / "exp", "--method", method, "--max_updates", "2").exp
    if method == "scratch":
        assert cli.main(["pack", str(exp), "-o", str(tmp_path / "x.pack")]) == 1
        assert f"s3router bake {exp} -o FOLDER" in capsys.readouterr().err
        assert not (tmp_path / "x.pack").exists()
    assert cli.main(["bake", str(exp), "-o", str(tmp_path / "baked")]) == 0
    out = capsys.readouterr().out
    size = sum(file.stat().st_size for file in (tmp_path / "baked").iterdir())
    assert f"{size:,} bytes; " in out
    assert "zero" not in out
    found = baked_model.CTC.load(tmp_path / "baked")(wave)[0]
    wanted, _ = emissions(ASRExperiment(exp).model(), [wave[0].numpy()])
    torch.testing.assert_close(found, wanted[0, : len(found)], atol=1e-4, rtol=0)


def adapter_pack(model: nn.Module, upstream: str, method: str) -> MaskPack:
    """`make_pack` with an adapter on every masked weight, half of which are masked no more."""
    pack = make_pack(model, upstream)
    layers = [name.removesuffix(".weight") for name in pack.masks]
    adapter = random_adapter(model, method, layers)
    masks = {name: mask for name, mask in pack.masks.items() if "0" in name}
    return replace(pack, masks=masks, adapter=adapter, meta=replace(pack.meta, adapter=SETTINGS[method]))


@pytest.mark.parametrize("method", ["lora", "dora", "sparse_delta", "bitdelta"])
@torch.inference_mode()
def test_adapters_become_weights(small_upstream, tmp_path, wave, method):
    model = load_expert("hf_hubert_custom", str(small_upstream)).model
    write_pack(tmp_path / "xx.pack", adapter_pack(model, "hf_hubert_custom", method), "bits", model)
    command = ["bake", f"{tmp_path}/xx.pack", "--backbone-ckpt", str(small_upstream), "-o", f"{tmp_path}/baked"]
    assert cli.main(command) == 0
    router = load_routes([tmp_path / "xx.pack"], ckpt=str(small_upstream))
    found, wanted = baked_model.CTC.load(tmp_path / "baked")(wave)[0], router.log_probs([wave[0]], "xx")[0]
    torch.testing.assert_close(found, wanted[: len(found)], atol=1e-4, rtol=0)
    without = expected(small_upstream, make_pack(model, "hf_hubert_custom"), wave)
    assert not torch.allclose(found, without, atol=1e-2)


def test_bottlenecks_are_served_and_not_baked(small_upstream, tmp_path, wave, capsys):
    model = load_expert("hf_hubert_custom", str(small_upstream)).model
    write_pack(tmp_path / "xx.pack", adapter_pack(model, "hf_hubert_custom", "houlsby"), "bits", model)
    command = ["bake", f"{tmp_path}/xx.pack", "--backbone-ckpt", str(small_upstream), "-o", f"{tmp_path}/baked"]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "plain models have no place; serve the pack instead" in said
    assert len(said.splitlines()) == 1
    assert os.listdir(tmp_path) == ["xx.pack"]
    bare = replace(adapter_pack(model, "hf_hubert_custom", "houlsby"), adapter={})
    bare = replace(bare, route="yy", meta=replace(bare.meta, adapter={}))
    router = load_routes([tmp_path / "xx.pack"], ckpt=str(small_upstream))
    router.add(bare)
    found = router.log_probs([wave[0]] * 2, ["xx", "yy"])
    assert not torch.allclose(*found, atol=1e-2)


def test_adapters_go_into_a_checkpoint_of_s3prl(tmp_path):
    torch.save(models.s3prl_state("hubert_custom"), tmp_path / "model.pt")
    model = load_expert("hubert_custom", str(tmp_path / "model.pt")).model
    pack = adapter_pack(model, "hubert_custom", "lora")
    write_pack(tmp_path / "xx.pack", pack)
    assert bake_on(tmp_path / "model.pt", tmp_path / "b") == 0
    baked = load_expert("hubert_custom", str(tmp_path / "b" / "model.pt")).model.state_dict()
    merged = merge(model, pack).state_dict()
    assert all(torch.equal(baked[name], weight.to(baked[name].dtype)) for name, weight in merged.items())


def test_an_experiment_with_masks_is_as_good_as_its_pack(route_experiments, upstream_in_place, tmp_path):
    exp = route_experiments["ru"]  # biases and layer norms were trained along
    assert cli.main(["pack", str(exp), "-o", str(tmp_path / "ru.pack")]) == 0
    for source, name in ((exp, "a"), (tmp_path / "ru.pack", "b")):
        assert cli.main(["bake", str(source), "-o", str(tmp_path / name)]) == 0
    for file in ("model.safetensors", "head.safetensors", "ctc.py", "tokens.txt", "head.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_classifier(small_upstream, tmp_path, capsys):
    model = load_expert("hf_hubert_custom", str(small_upstream)).model
    pack = make_pack(model, "hf_hubert_custom", gain_db=6.0)
    labels = tuple("abcdef")
    meta = replace(pack.meta, labels=labels, training={"task": "cls"})
    pack = replace(pack, tokens=None, meta=meta)
    write_pack(tmp_path / "xx.pack", pack)
    backbone = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(small_upstream)]
    command = ["bake", str(tmp_path / "xx.pack"), *backbone]
    assert cli.main([*command, "-o", str(tmp_path / "baked")]) == 0
    assert cli.main([*command, "-o", str(tmp_path / "c"), "--onnx"]) == 1
    assert not (tmp_path / "c").exists()
    router = load_routes([tmp_path / "xx.pack"], "hf_hubert_custom", str(small_upstream))
    baked = baked_model.Classifier.load(tmp_path / "baked")
    for length in (450, 12345):  # the shorter one is padded
        noise = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            found = baked(noise[None])[0]
        torch.testing.assert_close(found, router.logits([noise], "xx")[0], atol=1e-4, rtol=0)
    recording = tmp_path / "a.wav"
    write_audio(recording, noise.numpy(), 16000)
    capsys.readouterr()
    assert cli.main(["classify", *backbone, "--routes", str(tmp_path / "xx.pack"), str(recording)]) == 0
    ours = capsys.readouterr().out
    program = [sys.executable, str(tmp_path / "baked" / "classify.py"), str(recording)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.split("\t")[:2] == ours.split("\t")[:2]


def test_nothing_is_left_where_nothing_can_be_written(small_upstream, tmp_path, capsys, monkeypatch):
    model = load_expert("hf_hubert_custom", str(small_upstream)).model
    write_pack(tmp_path / "xx.pack", make_pack(model, "hf_hubert_custom"))
    backbone = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(small_upstream)]
    command = ["bake", str(tmp_path / "xx.pack"), *backbone, "-o"]
    (tmp_path / "file").touch()
    assert cli.main([*command, str(tmp_path / "file" / "baked")]) == 1
    assert "file" in capsys.readouterr().err

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(model), "save_pretrained", full)
    assert cli.main([*command, str(tmp_path / "out" / "baked")]) == 1
    said = capsys.readouterr().err
    assert "no space left on device" in said
    assert len(said.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_the_folder_one_is_in_is_refused(tmp_path, monkeypatch):
    from s3router.serving.bake import bake

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="the folder you are in"):
        bake("xx.pack", ".")


def test_what_is_refused(small_upstream, make_upstream, tmp_path):
    from s3router.serving.bake import bake

    model = load_expert("hf_hubert_custom", str(small_upstream)).model
    pack = make_pack(model, "hf_hubert_custom")
    write_pack(tmp_path / "xx.pack", pack)
    write_pack(tmp_path / "named.pack", replace(pack, meta=replace(pack.meta, checkpoint="small")))
    arguments = {"upstream": "hf_hubert_custom", "ckpt": str(small_upstream)}
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(ConfigError, match="is there already and not empty"):
        bake(tmp_path / "xx.pack", tmp_path / "used", **arguments)
    other = make_upstream(tmp_path / "other", seed=1)
    with pytest.raises(
        ConfigError, match=r"named\.pack is for .* hf_hubert_custom with a checkpoint that was called small; say where"
    ):
        bake(tmp_path / "named.pack", tmp_path / "b")
    (tmp_path / "named.pack").unlink()
    with pytest.raises(PackError, match="another backbone"):
        bake(tmp_path / "xx.pack", tmp_path / "b", "hf_hubert_custom", str(other))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "used", "xx.pack"]
    assert json.loads((other / "config.json").read_text())["model_type"] == "hubert"
