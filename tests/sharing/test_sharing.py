"""Packs to a hub and back: real requests of huggingface_hub to a small server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import s3router
from s3router import cli
from s3router.errors import ConfigError, PackError, RepositoryError
from s3router.packs import read_pack, write_pack
from s3router.sharing.address import Address, is_address
from tests.sharing.hub_server import Repository

ROOT = Path(__file__).parents[2]
AUDIO = sorted((ROOT / "tests" / "fixtures" / "five" / "audio").iterdir())


def run(capsys, *words) -> tuple[int, list[str], str]:
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def metadata(readme: bytes) -> dict:
    return yaml.safe_load(readme.decode().split("---\n")[1])


def test_there_and_back(hub, hand_made, capsys):
    status, lines, err = run(capsys, "push", "user/packs", hand_made["es"], hand_made["fr"], "--private")
    assert status == 0
    assert err == "warning: fr.pack says no licence; s3router pack --licence gives it one\n"
    repository = hub.repositories["user/packs"]
    head = repository.refs["main"]
    assert repository.private
    assert lines == [f"{hub.url}/user/packs: 2 packs, commit {head}", f"s3router pull user/packs@{head}"]
    assert repository.commits[head]["es.pack"] == hand_made["es"].read_bytes()
    assert any(line.startswith("PUT /lfs/") for line in hub.seen)

    status, lines, _ = run(capsys, "pull", "user/packs")
    assert status == 0
    assert lines[0] == f"user/packs@{head}: 2 packs for tiny"
    places = [Path(line.split("  ")[-1]) for line in lines[1:3]]
    assert [place.name for place in places] == ["es.pack", "fr.pack"]
    assert places[0].read_bytes() == hand_made["es"].read_bytes()
    assert lines[3:] == [
        "they fit the tiny that is here",
        f"s3router transcribe --routes user/packs@{head} --lang auto a.wav",
    ]

    expected = s3router.Router(packs=[hand_made["es"]]).transcribe(AUDIO[0], "es")
    router = s3router.Router.from_pretrained("user/packs", revision=head)
    assert router.routes == ("es", "fr")
    assert router.transcribe(AUDIO[0], "es").text == expected.text
    status, lines, _ = run(capsys, "transcribe", "--routes", f"user/packs@{head}", AUDIO[0], "--lang", "es")
    assert (status, lines) == (0, [f"{AUDIO[0]}\t{expected.text}"])


def test_a_commit_stays_and_needs_no_network(hub, hand_made, tmp_path, monkeypatch):
    first = s3router.push("user/packs", [hand_made["es"]])
    changed = shutil.copy(hand_made["fr"], tmp_path / "fr.pack")
    second = s3router.push("user/packs", [changed])
    assert [pack.name for pack in second.packs] == ["es.pack", "fr.pack"]
    assert [pack.route for pack in s3router.pull("user/packs", first.revision).packs] == ["es"]
    assert s3router.pull("user/packs@main").revision == second.revision
    hub.repositories["user/packs"].refs["v1"] = first.revision
    assert s3router.pull("user/packs", "v1").address == f"user/packs@{first.revision}"
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(s3router.pull(f"user/packs@{second.revision}").packs) == 2
    with pytest.raises(RepositoryError, match="not among the downloads, and HF_HUB_OFFLINE is set"):
        s3router.pull("user/others")


def test_the_card(hub, hand_made):
    s3router.push("user/packs", list(hand_made.values()))
    repository = hub.repositories["user/packs"]
    readme = repository.commits[repository.refs["main"]]["README.md"]
    told = metadata(readme)
    assert told["language"] == ["es", "fr"]
    assert told["library_name"] == "s3router"
    assert told["pipeline_tag"] == "automatic-speech-recognition"
    assert told["tags"] == ["s3router", "speech", "router"]
    assert told["metrics"] == ["wer", "cer", "accuracy"]
    assert "license" not in told  # of fr and ks none is known
    assert "base_model" not in told  # tiny is on no hub
    assert [entry["route"] for entry in told["s3router"]["packs"]] == ["es", "fr", "ks"]
    (model,) = told["model-index"]
    values = {
        (result["dataset"]["name"], metric["type"]): metric["value"]
        for result in model["results"]
        for metric in result["metrics"]
    }
    assert values["five prompts (es)", "wer"] == 50.0
    assert values["five prompts (ks)", "accuracy"] == 50.0
    text = readme.decode()
    assert (
        "| es.pack | es | es | router, 20.0% of weights removed | five prompts | dev WER 50 %, dev CER 25 % |" in text
    )
    for line in text.splitlines():
        assert not line.startswith("s3router ") or line.split()[1] in cli.COMMANDS


def test_licence_and_backbone_of_a_public_one(hand_made, tmp_path):
    from dataclasses import replace

    from s3router.packs import MaskPack, PackMeta, write_pack
    from s3router.sharing.card import card
    from s3router.sharing.shared_packs import SharedPack

    listening = {"kind": "seq2seq", "sample_rate": 16000, "language": "fr", "text_language": "fr"}
    meta = PackMeta("whisper_base", "0" * 32, preprocessing=listening, licence="CC BY-SA 4.0", corpus="a | b\n# c")
    paths = []
    for route, licence in (("a", "CC BY-SA 4.0"), ("b", "My own")):
        pack = MaskPack(route, {}, {}, {}, {}, None, replace(meta, licence=licence))
        write_pack(tmp_path / f"{route}.pack", pack)
        paths.append(tmp_path / f"{route}.pack")
    packs = [SharedPack.read(path) for path in paths]
    one = card(packs[:1], "user/packs")
    told = metadata(one.encode())
    assert (told["license"], told["language"]) == ("cc-by-sa-4.0", ["fr"])
    assert (told["base_model"], told["base_model_relation"]) == ("openai/whisper-base", "adapter")
    assert r"| a \| b\\n# c |" in one
    assert metadata(card(packs[1:], "user/packs").encode())["license_name"] == "my-own"
    assert metadata(card(packs, "user/packs").encode())["license_name"] == "several"


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("foo: [", "metadata"),
        ("- a\n- b", "metadata"),
        ("s3router: {packs: 3}", None),
        ("s3router: {packs: [{file: [a]}, 3]}", None),
        ("s3router: [es.pack]", None),
    ],
)
def test_a_readme_may_say_anything(hand_made, metadata, complaint):
    from s3router.sharing.card import card, check_card
    from s3router.sharing.shared_packs import SharedPack

    packs, readme = [SharedPack.read(hand_made["es"])], f"---\n{metadata}\n---\n\nmine\n"
    if complaint is None:
        check_card(packs, readme, "user/packs")
        assert "mine" in card(packs, "user/packs", readme)
        return
    for call in (lambda: check_card(packs, readme, "user/packs"), lambda: card(packs, "user/packs", readme)):
        with pytest.raises(PackError, match=r"user/packs: the metadata at the top of its README.md cannot be read"):
            call()


def test_what_people_wrote_into_the_readme_stays(hub, hand_made):
    repository = hub.repositories["user/packs"] = Repository()
    repository.commit({"README.md": b"---\nthumbnail: a.png\nlicense: mit\n---\n# Ours\n\nRecorded at sea.\n"})
    s3router.push("user/packs", [hand_made["es"]])
    s3router.push("user/packs", [hand_made["es"], hand_made["fr"]])
    readme = repository.commits[repository.refs["main"]]["README.md"]
    told = metadata(readme)
    assert (told["thumbnail"], told["language"]) == ("a.png", ["es", "fr"])
    text = readme.decode()
    assert text.count("Recorded at sea.") == text.count("## Use") == 1
    assert text.index("Recorded at sea.") < text.index("## Use")


def test_what_the_readme_said_of_other_packs_goes(hand_made, tmp_path):
    """A licence that not all packs have now, and labels of methods; what people wrote stays."""
    from dataclasses import replace

    from s3router.packs import read_pack, write_pack
    from s3router.sharing.card import card
    from s3router.sharing.shared_packs import SharedPack

    pack = read_pack(hand_made["es"])
    made = []
    for name, licence in (("a", "MIT"), ("b", ""), ("c", "weird")):
        write_pack(tmp_path / f"{name}.pack", replace(pack, route=name, meta=replace(pack.meta, licence=licence)))
        made.append(SharedPack.read(tmp_path / f"{name}.pack"))
    free, without, weird = made
    first = card([free], "user/packs").replace("- speech\n", "- speech\n- at sea\n", 1)
    assert metadata(first.encode())["license"] == "mit"
    told = metadata(card([free, without], "user/packs", first).encode())
    assert "license" not in told
    assert told["tags"][-1] == "at sea"
    told = metadata(card([free], "user/packs", card([weird], "user/packs")).encode())
    assert (told["license"], "license_name" in told) == ("mit", False)


def test_a_readme_that_is_no_text(hub, hand_made):
    repository = hub.repositories["user/packs"] = Repository()
    repository.commit({"README.md": "# Gesprächig\n".encode("latin-1")})
    with pytest.raises(PackError, match=r"user/packs: .*line 1 is not UTF-8 .*Mend its README.md on the hub"):
        s3router.push("user/packs", [hand_made["es"]])


def test_copies_in_a_folder(hub, hand_made, tmp_path, capsys):
    s3router.push("user/packs", [hand_made["ks"]])
    status, lines, _ = run(capsys, "pull", "user/packs", "--output", tmp_path / "mine")
    assert status == 0
    assert lines[1] == f"  ks  {tmp_path}/mine/ks.pack"
    assert lines[-1].startswith("s3router classify --routes user/packs@")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["ks.pack"]


def test_wrong_fingerprints(hub, hand_made, make_upstream, tmp_path, capsys, monkeypatch):
    s3router.push("user/packs", [hand_made["es"], hand_made["fr"]])
    repository = hub.repositories["user/packs"]
    files = repository.commits[repository.refs["main"]]
    swapped = repository.commit({**files, "es.pack": files["fr.pack"], "fr.pack": files["es.pack"]})
    with pytest.raises(PackError, match=rf"user/packs@{swapped}: es\.pack has route fr, and the README says 'es'"):
        s3router.pull("user/packs", swapped)
    fingerprint = metadata(files["README.md"])["s3router"]["packs"][0]["fingerprint"]
    lying = files["README.md"].replace(fingerprint.encode(), b"f" * 32)
    repository.commit({**files, "README.md": lying})
    with pytest.raises(PackError, match=f"has fingerprint {fingerprint}, and the README says '{'f' * 32}'"):
        s3router.pull("user/packs")
    repository.commit({**files, "es.pack": files["es.pack"][:-1]})
    with pytest.raises(PackError, match=r"es\.pack: "):
        s3router.pull("user/packs")
    repository.commit(files)
    monkeypatch.setenv("S3ROUTER_TINY", str(make_upstream(tmp_path / "other", seed=1)))
    status, lines, err = run(capsys, "pull", "user/packs")
    assert (status, lines) == (1, [])
    assert f"for a tiny with fingerprint {fingerprint}, and the one here has" in err


@pytest.mark.parametrize("name", ["packs", "a/b/c", "a b/c", "@main"])
def test_what_is_no_address(name):
    with pytest.raises(ConfigError, match="expected a repository, USER/NAME or USER/NAME@REVISION"):
        Address.parse(name)


def test_addresses_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_address("user/packs@main")
    assert is_address(Path("user/packs@main"))
    assert not is_address("exp/es")
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "packs@main").touch()
    assert not is_address("user/packs@main")


def test_what_the_hub_refuses(hub, hand_made, monkeypatch, capsys):
    es = hand_made["es"]
    hub.repositories["user/empty"] = Repository()
    hub.repositories["user/empty"].commit({"README.md": b"# Nothing\n"})
    hub.repositories["user/gated"] = Repository(gated=True)
    hub.repositories["user/gated"].commit({"README.md": b"# Nothing\n"})
    s3router.push("user/packs", [es])
    for words, token, message in (
        (
            ["pull", "user/none"],
            "reader",
            "user/none: no such repository, or a private one; correct the name, or log in",
        ),
        (["pull", "user/none"], "", "user/none: no such repository, or a private one; correct the name"),
        (["pull", "user/packs@v9"], "reader", "user/packs: no revision v9; name a branch, a tag or a commit of it"),
        (["pull", "user/empty"], "reader", "user/empty: no packs in it (*.pack)"),
        (["pull", "user/gated"], "", f"user/gated: access has to be asked for on its page, {hub.url}/user/gated"),
        (["pull", "user/packs"], "wrong", "user/packs: the token is not valid"),
        (
            ["push", "user/packs", es],
            "",
            "user/packs: writing needs a token; log in with hf auth login, or set HF_TOKEN",
        ),
        (["push", "user/new", es], "reader", "user/new: the token may not do this"),
        (["push", "user/packs", es], "wrong", "user/packs: the token is not valid"),
        (["push", "user/packs@v9", es], "writer", "user/packs: no revision v9"),
        (["transcribe", "--routes", "user/none@main", AUDIO[0]], "reader", "user/none: no such repository"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        status, lines, err = run(capsys, *words)
        assert (status, lines) == (1, []), words
        assert err.startswith(f"s3router {words[0]}: error: {message}"), err
        assert err.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", "writer")
    assert "user/new" not in hub.repositories


def test_packs_that_do_not_belong_together(hub, hand_made, tmp_path):
    s3router.push("user/packs", [hand_made["es"]])
    before = dict(hub.repositories["user/packs"].refs)
    other = shutil.copy(hand_made["es"], tmp_path / "spanish.pack")
    with pytest.raises(ConfigError, match=r"es\.pack and spanish\.pack are both of route 'es'"):
        s3router.push("user/packs", [other])
    with pytest.raises(ConfigError, match="have one name"):
        s3router.push("user/packs", [hand_made["es"], shutil.copy(hand_made["fr"], tmp_path / "es.pack")])
    with pytest.raises(ConfigError, match="rename it"):
        s3router.push("user/packs", [shutil.copy(hand_made["fr"], tmp_path / "fr.bin")])
    other_weights = read_pack(hand_made["fr"])
    meta = replace(other_weights.meta, fingerprint="0" * 32)
    write_pack(tmp_path / "further.pack", replace(other_weights, meta=meta))
    with pytest.raises(ConfigError, match=r"further\.pack are for .* with other weights .* one backbone"):
        s3router.push("user/packs", [tmp_path / "further.pack"])
    with pytest.raises(ConfigError, match="no packs to push"):
        s3router.push("user/packs", [])
    (tmp_path / "bad.pack").write_bytes(b"no pack")
    with pytest.raises(PackError, match=r"bad\.pack"):
        s3router.push("user/packs", [tmp_path / "bad.pack"])
    assert hub.repositories["user/packs"].refs == before


def test_no_network(hub, hand_made, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for words in (["pull", "user/packs"], ["push", "user/packs", hand_made["es"]]):
        status, _, err = run(capsys, *words)
        assert status == 1
        assert err.startswith(f"s3router {words[0]}: error: user/packs: http://127.0.0.1:9 cannot be reached (")
        assert err.count("\n") == 1


def test_commands_of_their_own(hub, hand_made, tmp_path):
    """Processes that know of the hub by HF_ENDPOINT alone."""
    more = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    env = {**kept, **more, "HF_TOKEN": "writer", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "s3router"]
    for words in (["push", "user/packs", str(hand_made["es"])], ["pull", "user/packs@main"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=ROOT, env=env, check=False)
        assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/home/hub/models--user--packs/snapshots/" in done.stdout
