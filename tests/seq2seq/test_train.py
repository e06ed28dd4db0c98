"""Training of whole recognisers: what trains, what a folder holds, resuming, and refusals."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from s3router import cli
from s3router.data.kaldi import Utterance
from s3router.errors import CheckpointError, ConfigError, DataError, TrainingError
from s3router.seq2seq.experiment import Seq2SeqExperiment
from s3router.seq2seq.options import read_options
from s3router.seq2seq.train import train
from s3router.seq2seq.trainer import arguments
from s3router.tuners import METHODS, methods_for
from s3router.tuners.learnt import Learnt
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.seq2seq.conftest import FIVE
from tests.tuners.test_tuners import with_learnt

TRAINED = [name for name in methods_for(whole=True) if METHODS[name].rate]


def run(words: list[str]) -> None:
    train(read_options(words))


@pytest.mark.parametrize("method", TRAINED)
def test_what_is_learnt_is_what_the_method_trains(command, tmp_path, whisper_folder, method):
    exp = tmp_path / method
    run(command(exp, "--method", method, f"--{METHODS[method].rate}", "1e-2"))
    found = Seq2SeqExperiment(exp)
    assert found.validated["updates"] == 4
    assert [p["update"] for p in found.validated["curve"]] == [2, 4]
    plain = load_recogniser("auto", str(whisper_folder))
    assert found.fingerprint == plain.fingerprint
    parts = found.parts()
    assert not parts.head
    assert parts.tokens is None
    assert parts.preprocessing["language"] == "fr"
    assert (parts.training["seed"], parts.training["max_updates"]) == (0, 4)
    weights = dict(plain.model.named_parameters())
    ffn = {name for name in weights if name.endswith(("fc1.weight", "fc2.weight"))}
    if method == "router":
        assert parts.masks.keys() == ffn
        assert not parts.delta
        for name, mask in parts.masks.items():
            assert int((~mask).sum()) == int(0.1 * weights[name].numel()), name
    elif method == "weight":
        still = {name for name in weights if "conv" in name or name == "model.encoder.embed_positions.weight"}
        assert parts.delta.keys() == weights.keys() - still
    elif method == "ffn_weight":
        assert parts.delta.keys() == ffn
    elif method == "bitfit":
        assert "model.decoder.layers.1.encoder_attn_layer_norm.weight" in parts.delta
        assert not any(".conv" in name for name in parts.delta)  # the front end stays, as on the encoder alone
    elif METHODS[method].prunes:
        attention = {name for name in weights if name.endswith("_proj.weight")}
        assert parts.masks.keys() == ffn | attention
        assert parts.delta.keys() == {
            n for n in weights if "conv" not in n and not n.endswith("encoder.embed_positions.weight")
        }
        for name, mask in parts.masks.items():
            assert int((~mask).sum()) == int(0.1 * weights[name].numel()), name
    else:
        assert not parts.delta
        assert parts.adapter_meta["method"] == method
        assert any(".decoder." in name for name in parts.adapter)
    # the plain model with these weights gives what the trained one gives
    trained = found.model()
    with torch.no_grad():
        plain_model = with_learnt(plain.model, Learnt(parts.masks, parts.delta, parts.adapter, parts.adapter_meta))
        features = plain.log_mel(torch.randn(16000))[None]
        tokens = torch.tensor([plain.prompt("fr")])
        wanted = trained(features, decoder_input_ids=tokens).logits
        torch.testing.assert_close(plain_model(features, decoder_input_ids=tokens).logits, wanted, atol=1e-5, rtol=0)


RESUMED = {
    "router": (),
    "imp": ("--method_conf", '{"rounds": 3}'),
    "parp": ("--method_conf", '{"every": 1}'),
    "router_p": ("--method_conf", '{"start": "finetuned", "finetune": 0.25}'),
}


@pytest.mark.parametrize("method", RESUMED)
def test_a_folder_is_small_and_a_resumed_run_ends_where_an_uninterrupted_one_does(
    command, tmp_path, monkeypatch, method
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = ("--method", method, *RESUMED[method], "--weight_lr", "1e-3")
    run(command(whole, *more))
    from s3router.seq2seq.trainer import RecogniserTrainer

    with monkeypatch.context() as patch:  # a run that ends just before update 4 is validated
        validate, seen = RecogniserTrainer.evaluate, []

        def dies(self, *args, **kwargs):
            seen.append(1)
            if len(seen) == 2:
                raise KeyboardInterrupt
            return validate(self, *args, **kwargs)

        patch.setattr(RecogniserTrainer, "evaluate", dies)
        with pytest.raises(KeyboardInterrupt):
            run(command(cut, *more))
    assert Seq2SeqExperiment(cut).validated["updates"] == 2
    broken = cut / "checkpoints" / "checkpoint-3"  # what a kill in the middle of saving leaves
    broken.mkdir()
    (broken / "trained.pth").write_bytes(b"half")
    (broken / "trainer_state.json").write_text('{"best_')
    run(command(cut, *more))
    records = [Seq2SeqExperiment(exp).validated for exp in (whole, cut)]
    for record in records:
        record.pop("seconds")
        for point in [record["best"], *record["curve"]]:
            point.pop("seconds")
    assert records[0] == records[1]
    one, other = (Seq2SeqExperiment(exp).state() for exp in (whole, cut))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(name.endswith(".scores") for name in one) == (method == "router")


def test_other_settings_do_not_resume(command, tmp_path):
    run(command(tmp_path / "exp"))
    with pytest.raises(ConfigError, match=r"--score_lr was 0.001, is 0.01"):
        run(command(tmp_path / "exp", "--score_lr", "1e-2"))


def test_a_finished_run_stays_as_it_is(command, tmp_path):
    exp = tmp_path / "exp"
    words = command(exp, "--mask_conf", "score_average=0.5", "--progress_interval", "5")
    run(words)
    record, state = Seq2SeqExperiment(exp).validated, Seq2SeqExperiment(exp).state()
    assert all(math.isfinite(point["loss"]) for point in record["curve"])  # no progress line came before
    run(words)
    found = Seq2SeqExperiment(exp)
    assert found.validated == record
    assert all(torch.equal(found.state()[name], tensor) for name, tensor in state.items())


def test_other_data_does_not_resume(command, tmp_path):
    data, exp = tmp_path / "data", tmp_path / "exp"
    shutil.copytree(FIVE, data)
    words = command(exp, "--method", "lora", "--max_updates", "1", "--train_dir", str(data))
    run(words)
    utt, first, *rest = (data / "text").read_text().split(" ", 2)
    (data / "text").write_text(" ".join([utt, first[::-1], *rest]))
    with pytest.raises(DataError, match="are not those of the run"):
        run(words)
    config = json.loads((exp / "seq2seq.json").read_text())
    del config["data"]  # as older versions wrote it
    (exp / "seq2seq.json").write_text(json.dumps(config))
    Seq2SeqExperiment(exp).check_same_data({"train": "1", "valid": "2"})


@pytest.mark.parametrize(("updates", "message"), [("4", "update 2: the loss is nan"), ("1", "is not finite")])
def test_a_diverged_training_ends_in_an_error_and_leaves_no_model(command, tmp_path, updates, message):
    words = command(tmp_path / "exp", "--method", "weight", "--weight_lr", "1e38" if updates == "1" else "1e20")
    words += ["--max_updates", updates, "--valid_interval", "4", "--progress_interval", "5", "--warmup", "0"]
    with pytest.raises(TrainingError, match=message):
        run(words)
    assert not (tmp_path / "exp" / "best.pth").exists()


def test_untrained_it_is_the_published_one_in_windows_of_thirty_seconds(command, tmp_path, capsys):
    exp = tmp_path / "exp"
    run(command(exp, "--method", "frozen"))
    found = Seq2SeqExperiment(exp)
    assert found.state() == {}
    assert found.options["window_step"] == 30.0
    words = ["--exp-dir", str(exp), "--data-dir", str(FIVE), "--output-dir", str(exp / "decode_five")]
    assert cli.main(["decode", *words]) == 0
    result = json.loads((exp / "decode_five" / "result.json").read_text())
    assert set(result["ran_on"]) <= {line.split()[0] for line in (FIVE / "text").read_text().splitlines()}
    assert result["language"] == "fr"
    assert "WER" in capsys.readouterr().out
    assert found.metrics()["five"]["wer"] == result["wer"]
    for more, message in (
        (("--max-seconds", "30", "--overlap-seconds", "2"), "--max-seconds, --overlap-seconds: for CTC models"),
        (("--bf16", "--lm-unit", "char"), "--lm-unit, --bf16: for CTC models"),
        (("--beam-size", "0"), "--beam-size 0: 1 is greedy"),
    ):
        assert cli.main(["decode", *words, *more, "--dry-run"]) == 1
        assert message in capsys.readouterr().err


def test_a_language_that_is_not_known_takes_the_likeliest_token(command, tmp_path, capsys):
    exp = tmp_path / "exp"
    words = [word if word != "fr" else "auto" for word in command(exp)]
    run(words)
    config = json.loads((exp / "seq2seq.json").read_text())
    losses = config["language_losses"]
    assert list(losses.values()) == sorted(losses.values())
    assert config["options"]["language"] == next(iter(losses))
    run(words)  # and goes on with it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--language", "mdw"), "language 'mdw' is none that upstream auto knows"),
        (("--method", "weight", "--sparsity", "0.1"), "--sparsity and --mask_conf are for methods with masks"),
        (("--method", "router", "--method_conf", '{"r": 4}'), "method_conf is for methods .*lora.*, not router"),
        (("--method", "lora", "--method_conf", '{"rank": 4}'), "method lora has no rank; known: targets, r,"),
        (("--method", "lora", "--method_conf", '{"targets": ["fnn"]}'), "'fnn' is unknown"),
        (("--mask_conf", '{"targets": ["*.fc7"]}'), "matches nothing"),
        (("--spec_augment", '{"mask": 1}'), "unknown mask; known: mask_feature_length"),
        (("--spec_augment", "mask_time_prob=abc"), "--spec_augment mask_time_prob must be a number from 0 to 1"),
        (("--spec_augment", "mask_time_length=0.5"), "--spec_augment mask_time_length must be a whole number"),
        (("--spec_augment", "mask_time_length=0"), "--spec_augment mask_time_length must be a whole number above 0"),
        (("--spec_augment", "mask_feature_length=81"), "the upstream has 80 mel bins; give less"),
        (("--spec_augment", "mask_time_length=9999"), "mask_time_length=9999: the upstream has .* frames of 10 ms"),
        (("--device", "cuda:1"), "--device cuda:1: training takes the first GPU .* CUDA_VISIBLE_DEVICES=1"),
        (("--language", "auto", "--normalize", "sentences"), "--normalize needs the language of the references"),
        (("--max_updates", "0"), "--max_updates must be a whole number above 0"),
        (("--seed", "-1"), "--seed must be a whole number from 0 up to 2\\^32, found -1"),
        (("--score_lr", "0"), "--score_lr must be a number above 0"),
        (("--window_step", "40"), "--window_step must be from 1 to 30 s"),
        (("--warmup", "1"), "--warmup must be a share"),
        (("--upstream", "tiny", "--upstream_ckpt", ""), "needs a Whisper"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(command, tmp_path, options, message):
    exp = tmp_path / "exp"
    with pytest.raises((ConfigError, CheckpointError), match=message):
        run(command(exp, *options))
    assert not exp.exists()


def test_a_run_without_a_checkpoint_makes_way(command, tmp_path):
    exp = tmp_path / "exp"
    exp.mkdir()
    run(command(tmp_path / "other", "--method", "frozen"))
    shutil.copy(tmp_path / "other" / "seq2seq.json", exp)
    run(command(exp, "--method", "lora", "--max_updates", "1"))
    assert json.loads((exp / "seq2seq.json").read_text())["options"]["method"] == "lora"


def test_the_published_recogniser_is_taken_with_other_data(command, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(FIVE, tmp_path / "dev")
    run(command(exp, "--method", "frozen"))
    run(command(exp, "--method", "frozen", "--valid_dir", str(tmp_path / "dev")))
    assert json.loads((exp / "seq2seq.json").read_text())["options"]["valid_dir"] == str(tmp_path / "dev")


def test_targets_begin_as_decoding_does(whisper_folder):
    from s3router.seq2seq.utterances import encode

    recogniser = load_recogniser("auto", str(whisper_folder))
    barred = recogniser.model.generation_config.begin_suppress_tokens
    for text in ("ẹ kú àárọ̀", "ɔ", "大", "premere zero"):
        ids = encode(recogniser, text)
        assert ids[0] not in barred
        assert recogniser.tokenizer.decode(ids).strip() == text


def test_signs_that_decoding_never_writes_are_told(whisper_folder):
    from s3router.seq2seq.utterances import never_written

    utts = [Utterance(str(i), "a.wav", text) for i, text in enumerate(("so: yes", "(no)", "plain"))]
    found = never_written(load_recogniser("auto", str(whisper_folder)), utts)
    assert {":", "(", ")"} <= found.keys()
    assert found[":"] == 1


def test_utterances_that_do_not_fit_a_window_are_left_out(command, tmp_path, whisper_folder):
    from s3router.seq2seq.utterances import read_utterances

    data = tmp_path / "data"
    shutil.copytree(FIVE, data)
    text = (data / "text").read_text().splitlines()
    utt, *_ = text[0].split()
    text[0] = f"{utt} " + "a" * 600
    (data / "text").write_text("\n".join(text) + "\n")
    recogniser = load_recogniser("auto", str(whisper_folder))
    kept, problems = read_utterances(str(data), recogniser, recogniser.prompt("fr"))
    assert utt not in [one.utt for one in kept]
    assert len(kept) == len(text) - 1
    assert len(problems) == 1
    assert "tokens, of which the decoder takes" in problems[0]


def test_one_gpu_of_several_is_used(monkeypatch, tmp_path):
    for name, value in (
        ("is_available", lambda: True),
        ("device_count", lambda: 2),
        ("set_device", lambda device: None),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    words = ["--train_dir", "a", "--valid_dir", "b", "--output_dir", str(tmp_path), "--device", "cuda"]
    exp = SimpleNamespace(options=vars(read_options(words)), path=tmp_path, CHECKPOINTS="checkpoints")
    try:
        made = arguments(exp)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # which has taken note of GPUs
    assert (made.n_gpu, made.train_batch_size) == (1, 8)
