"""Training end to end on five utterances: what each method trains and keeps, what is refused, what is reported."""

from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
import torch
import yaml

from s3router.data.kaldi import DataDir
from s3router.data.tokens import train_bpe
from s3router.errors import CheckpointError
from s3router.files import write_lines
from s3router.training.checkpoints import read_states
from s3router.tuners import METHODS

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
HEAD = {"frontend.featurizer.weights", "ctc.ctc_lo.weight", "ctc.ctc_lo.bias"}
UPSTREAM = "frontend.upstream.upstream.expert.model."


@pytest.fixture(scope="module")
def runs(zygote, tmp_path_factory):
    """method -> folder of a finished run, made once. Head learning rate high enough to see CER move in six updates."""
    folder, made = tmp_path_factory.mktemp("methods"), {}

    def run(method: str) -> Path:
        if method not in made:
            made[method] = zygote.run(folder / method, "--method", method, "--head_lr", "2e-2").exp
        return made[method]

    return run


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_holds_what_was_trained(runs, method):
    names = set(read_states(runs(method) / "checkpoint.pth")["model"])
    assert names >= HEAD
    upstream = {name.removeprefix(UPSTREAM) for name in names - HEAD}
    layers = [f"encoder.layers.{k}.feed_forward.{d}_dense" for k in (0, 1) for d in ("intermediate", "output")]
    ours = {
        "frozen": [],
        "magnitude": [],
        "router": ["parametrizations.weight.0.scores"],
        "bitdelta": ["parametrizations.weight.0.change"],
        "ffn_weight": ["weight"],
        "lora": [f"lora_{ab}.default.weight" for ab in "AB"],
        "dora": [*(f"lora_{ab}.default.weight" for ab in "AB"), "lora_magnitude_vector.default.weight"],
        "sparse_delta": ["shira_weight.default"],
    }
    if method in ours:
        assert upstream == {f"{layer}.{name}" for layer in layers for name in ours[method]}
    elif method == "houlsby":
        assert len(upstream) == 2 * 2 * 4
        assert all(".houlsby." in name for name in upstream)
    elif method == "bitfit":
        assert "encoder.layers.1.attention.q_proj.bias" in upstream
        assert not any("feature_extractor" in name or name.endswith("dense.weight") for name in upstream)
    else:
        extractor = {name for name in upstream if name.startswith("feature_extractor.")}
        assert bool(extractor) == (method == "scratch")
        assert any(name.startswith("encoder.layers.1.attention.") for name in upstream)
        assert "feature_projection.projection.weight" in upstream


@pytest.mark.parametrize("method", METHODS)
def test_the_loaded_model_repeats_the_validation(runs, method, small_upstream, monkeypatch):
    from s3router.asr.experiment import ASRExperiment
    from s3router.data.audio import read_audio
    from s3router.scoring.error_counts import ErrorCounts

    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    exp = runs(method)
    stats = read_states(exp / "checkpoint.pth")["reporter"]["stats"]
    best = min(stats[epoch]["valid"]["cer_ctc"] for epoch in stats)
    model, tokens = ASRExperiment(exp).model(), ASRExperiment(exp).token_list
    assert tokens[0] == "<blank>"
    assert not model.training
    errors = ErrorCounts()
    for utt in DataDir.read(FIVE).utts:
        speech = torch.from_numpy(read_audio(utt.source))[None]
        with torch.no_grad():
            encoded, lengths = model.encode(speech, torch.tensor([speech.shape[1]]))
            ids = model.ctc.log_softmax(encoded).argmax(-1)[0, : lengths[0]]
        errors.add(model.tokens.decode(i for i in torch.unique_consecutive(ids).tolist() if i), utt.text)
    assert errors.cer == pytest.approx(best, abs=0.02)  # padding moves a frame now and then


def test_the_two_learning_rates_follow_the_same_curve(runs):
    stats = read_states(runs("router") / "checkpoint.pth")["reporter"]["stats"]
    for epoch in stats:
        scores, head = (stats[epoch]["train"][f"optim0_lr{k}"] for k in (0, 1))
        assert scores / head == pytest.approx(5e-3 / 2e-2)
    assert stats[3]["train"]["optim0_lr1"] < stats[2]["train"]["optim0_lr1"] <= 2e-2


def test_masks_train(runs, zygote, tmp_path):
    """Scores move, and the masks with them: not one but several masks have been in use."""
    start = zygote.run(tmp_path / "start", "--method", "router", "--score_lr", "0", "--head_lr", "2e-2").exp
    before, after = (read_states(exp / "checkpoint.pth") for exp in (start, runs("router")))
    name = f"{UPSTREAM}encoder.layers.0.feed_forward.output_dense.parametrizations.weight.0.scores"
    old, new = before["model"][name], after["model"][name]
    removed = [scores.abs().flatten().argsort()[: scores.numel() // 10].sort().values for scores in (old, new)]
    assert not torch.equal(*removed)
    losses = [states["reporter"]["stats"][3]["valid"]["loss"] for states in (before, after)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("share", "still"), [("0.67", True), ("0.5", False)])
def test_at_first_the_head_trains_alone(zygote, tmp_path, share, still):
    """Six updates, validated every two: the scores stay as they are for four of them, or for three."""
    options = ("--method", "router", "--head_lr", "2e-2", "--head_first", share, "--keep_nbest_models", "3")
    exp = zygote.run(tmp_path / "exp", *options).exp
    first, second, last = (read_states(exp / f"{epoch}epoch.pth") for epoch in (1, 2, 3))
    scores = [name for name in first if name.endswith(".scores")]
    assert all(torch.equal(first[name], second[name]) == still for name in scores)
    assert not any(torch.equal(second[name], last[name]) for name in scores)
    assert not torch.equal(first["ctc.ctc_lo.weight"], second["ctc.ctc_lo.weight"])
    assert "so far the head trained alone" in (tmp_path / "exp.screen").read_text()


def test_flips_of_mask_entries_are_recorded(runs):
    """As shares: since the last validation, and in the last update."""
    stats = read_states(runs("router") / "checkpoint.pth")["reporter"]["stats"]
    found = [stats[epoch]["train"] for epoch in (1, 2, 3)]
    assert all(0 < epoch["flips_per_update"] <= 0.2 for epoch in found)
    assert all(0 < epoch["flips"] <= 0.2 for epoch in found)  # 10 % are removed: 20 % can change sides
    assert [epoch["flips"] for epoch in found] != [epoch["flips_per_update"] for epoch in found]
    weight = read_states(runs("weight") / "checkpoint.pth")["reporter"]["stats"]
    assert "flips" not in weight[1]["train"]


def test_the_screen_is_short_and_says_how_long(runs):
    screen = (runs("weight").parent / "weight.screen").read_text()
    lines = screen.splitlines()
    assert len([line for line in lines if " left" in line]) == 6
    assert len([line for line in lines if "validated: loss" in line]) == 3
    assert "done: best CER" in lines[-1]
    assert len(lines) < 20, screen
    assert len((runs("weight") / "train.log").read_text().splitlines()) > 50
    assert list((runs("weight") / "tensorboard" / "valid").iterdir())


def test_bfloat16(runs, zygote, tmp_path):
    exact = read_states(runs("router") / "checkpoint.pth")["reporter"]["stats"]
    run = zygote.run(tmp_path / "exp", "--method", "router", "--head_lr", "2e-2", "--amp_dtype", "bfloat16")
    rough = read_states(run.exp / "checkpoint.pth")
    first = rough["reporter"]["stats"][1]["train"]["loss"]
    assert first != exact[1]["train"]["loss"]
    assert first == pytest.approx(exact[1]["train"]["loss"], rel=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in rough["model"].values())


def test_arithmetic_is_measured_once(zygote, tmp_path):
    """The choice is in the log and in the configuration, and holds when the run goes on."""
    options = ("--method", "frozen", "--max_updates", "2", "--amp_dtype", "auto")
    config, log = tmp_path / "exp/config.yaml", tmp_path / "exp/train.log"
    zygote.run(tmp_path / "exp", *options)
    chosen = yaml.safe_load(config.read_text())
    assert chosen["amp_dtype"] == chosen["model_conf"]["amp_dtype"]
    assert f"arithmetic: {chosen['amp_dtype']} (" in log.read_text()
    other = "float32" if chosen["amp_dtype"] == "bfloat16" else "bfloat16"
    config.write_text(config.read_text().replace(f"amp_dtype: {chosen['amp_dtype']}", f"amp_dtype: {other}"))
    zygote.run(tmp_path / "exp", *options)
    assert yaml.safe_load(config.read_text())["model_conf"]["amp_dtype"] == other
    assert log.read_text().count("arithmetic: ") == 1


def test_gradient_accumulation(zygote, tmp_path):
    """Two batches in a step: the same number of steps and validations, twice the batches."""
    options = ("--method", "frozen", "--accum_grad", "2", "--max_updates", "3")
    states = read_states(zygote.run(tmp_path / "exp", *options).exp / "checkpoint.pth")
    assert states["optimizers"][0]["state"][0]["step"] == 3
    assert states["reporter"]["stats"][2]["train"]["total_count"] == 6


def test_averaging_the_best(zygote, tmp_path):
    options = ("--method", "router", "--keep_nbest_models", "2")
    exp = zygote.run(tmp_path / "exp", *options).exp
    stats = read_states(exp / "checkpoint.pth")["reporter"]["stats"]
    best = sorted(stats, key=lambda epoch: stats[epoch]["valid"]["cer_ctc"])[:2]
    average = read_states(exp / "valid.cer_ctc.ave_2best.pth")
    parts = [read_states(exp / f"{epoch}epoch.pth") for epoch in best]
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, (parts[0][name] + parts[1][name]) / 2)


def test_two_processes_train_what_one_does(zygote, tmp_path):
    """ESPnet's own DDP on two CPU processes (gloo); without dropout the gradients are those of one process."""
    plain = ["--method", "router", "--head_dropout", "0", "--upstream_dropout", "0"]
    plain += ["--feature_masking", "time_prob=0", "--feature_masking", "channel_prob=0", "--batch_seconds", "6"]
    plain += ["--max_updates", "4"]
    one = zygote.run(tmp_path / "one", *plain).exp
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    both = ["--dist_world_size", "2", "--dist_backend", "gloo", "--dist_master_addr", "localhost"]
    both += ["--dist_master_port", port]
    ranks = [zygote.start(tmp_path / "two", *plain, *both, "--dist_rank", str(rank)) for rank in (0, 1)]
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].screen
    single, double = (read_states(exp / "checkpoint.pth") for exp in (one, tmp_path / "two"))
    for name, tensor in single["model"].items():
        torch.testing.assert_close(double["model"][name], tensor, rtol=1e-3, atol=1e-3)
    figures = [states["reporter"]["stats"][2]["valid"] for states in (single, double)]
    assert figures[0]["cer_ctc"] == pytest.approx(figures[1]["cer_ctc"], abs=0.05)
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "rooter"], "argument --method: invalid choice: 'rooter'"),
        (["--sparsity", "1.5"], "1.5"),
        (["--sparcity", "0.5"], "--sparsity"),
        (["--mask_conf", "granularty=output"], "unknown key 'granularty'"),
        (["--method", "frozen", "--sparsity", "0.1"], "--sparsity and --mask_conf are for methods with masks"),
        (["--max_updates", "0"], "--max_updates must be a whole number above 0, found 0"),
        (["--head_lr", "-1"], "--head_lr must be a number of 0 or more"),
        (["--head_first", "1"], "--head_first must be a share from 0 up to 1, found 1.0"),
        (["--method", "scratch", "--head_first", "0.5"], "--head_first: there is nothing in a random upstream"),
        (["--feature_masking", "time_probb=0.5"], "unknown time_probb"),
        (["--train_dir", "nowhere"], "nowhere/wav.scp: no such file"),
        (["--token_list", "nowhere.txt"], "nowhere.txt: no such token list"),
        (["--upstream", "hf_hubert_custom"], "needs a folder"),
        (["--upstream", "tiiny"], "tiny"),
        (["--config", "nowhere.yaml"], "No such file: nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(zygote, tmp_path, options, message):
    run = zygote.run(tmp_path / "exp", *options, status=1)
    lines = run.screen.strip().splitlines()
    assert message in run.screen
    assert lines[0].startswith("s3router train: error: ")
    assert len(lines) <= 3, run.screen
    assert not (tmp_path / "exp").exists()


def test_a_dry_run_checks_and_leaves_nothing(zygote, tmp_path):
    screen = zygote.run(tmp_path / "exp", "--dry_run", "true").screen
    assert screen.strip().splitlines()[-1] == "options and transcripts are fine"
    screen = zygote.run(tmp_path / "exp", "--dry_run", "true", "--upstream", "tiiny", status=1).screen
    assert "tiiny" in screen
    assert "tiny" in screen
    assert not (tmp_path / "exp").exists()


def write_data(folder: Path, **texts: str) -> Path:
    """The five utterances, some with another transcript."""
    folder.mkdir()
    utts = DataDir.read(FIVE).utts
    (folder / "wav.scp").write_text("".join(f"{u.utt} {u.source}\n" for u in utts))
    (folder / "text").write_text("".join(f"{u.utt} {texts.get(u.utt.split('-')[-1], u.text)}\n" for u in utts))
    return folder


def test_a_character_outside_the_token_list_is_refused(zygote, tmp_path):
    data = write_data(tmp_path / "data", goodbye="ciao ß")
    run = zygote.run(tmp_path / "exp", "--train_dir", str(data), status=1)
    assert "it_carlo-vm-goodbye: not in the token list: ß" in run.screen
    assert not (tmp_path / "exp").exists()


def test_damaged_audio_is_refused(zygote, tmp_path):
    data = write_data(tmp_path / "data")
    whole = (FIVE / "audio" / "it_carlo-vm-goodbye.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    scp = (
        (data / "wav.scp")
        .read_text()
        .replace("tests/fixtures/five/audio/it_carlo-vm-goodbye.flac", f"{tmp_path}/cut.flac")
    )
    (data / "wav.scp").write_text(scp)
    run = zygote.run(tmp_path / "exp", "--train_dir", str(data), status=1)
    assert "cut.flac" in run.screen
    assert "error: " in run.screen.splitlines()[-1]


def test_a_transcript_that_does_not_fit_is_reported_once(zygote, tmp_path):
    data = write_data(tmp_path / "data", digits_tomorrow="domani " * 20)
    run = zygote.run(tmp_path / "exp", "--method", "frozen", "--train_dir", str(data))
    reports = [line for line in run.screen.splitlines() if "it_carlo-digits_tomorrow" in line]
    assert len(reports) == 1
    assert "do not fit its" in reports[0]
    stats = read_states(run.exp / "checkpoint.pth")["reporter"]["stats"]
    assert all(math.isfinite(stats[epoch]["train"]["loss"]) for epoch in stats)


def test_gradients_that_are_never_finite_end_the_run(zygote, tmp_path):
    run = zygote.run(tmp_path / "exp", "--method", "frozen", "--head_lr", "1e38", status=1)
    assert "not one gradient since the last validation was a finite number" in run.screen
    reports = [line for line in run.screen.splitlines() if "its loss is" in line]
    assert sorted(line.split()[2] for line in reports) == sorted(f"{u.utt}:" for u in DataDir.read(FIVE).utts)


def test_the_configuration_can_be_printed(zygote, tmp_path):
    screen = zygote.run(tmp_path / "exp", "--print_config").screen
    assert "score_lr: 0.005" in screen
    assert "scheduler: tristagelr" in screen


def test_a_checkpoint_of_another_method_is_refused(runs, small_upstream, monkeypatch):
    from s3router.asr.experiment import ASRExperiment

    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    with pytest.raises(CheckpointError, match=r"does not fit the model: lacks .*scores"):
        ASRExperiment(runs("router")).model(runs("frozen") / "checkpoint.pth")


def test_a_damaged_checkpoint_is_refused(runs, tmp_path):
    from s3router.asr.experiment import ASRExperiment

    whole = (runs("frozen") / "latest.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut.pth: damaged"):
        ASRExperiment(runs("frozen")).model(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"nothing.pth: no such checkpoint"):
        ASRExperiment(runs("frozen")).model("nothing.pth")
    with pytest.raises(CheckpointError, match="not an experiment"):
        ASRExperiment(tmp_path)


def test_word_pieces_lie_beside_the_run(zygote, tmp_path, small_upstream, monkeypatch):
    from s3router.asr.experiment import ASRExperiment

    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    tokens = train_bpe([utt.text for utt in DataDir.read(FIVE).utts], 24, tmp_path / "there")
    write_lines(tmp_path / "tokens.txt", tokens)
    bpe = ["--token_type", "bpe", "--bpemodel", str(tmp_path / "there.model")]
    exp = zygote.run(tmp_path / "exp", *bpe, "--token_list", str(tmp_path / "tokens.txt"), "--max_updates", "1").exp
    (tmp_path / "there.model").unlink()  # a relative path is as good as gone in another folder
    found = ASRExperiment(exp)
    assert found.tokens.split("any")
    assert found.model() is not None
    assert found.parts().bpe_model == (exp / "bpe.model").read_bytes()
