from __future__ import annotations

import pytest

from s3router.cli import main
from s3router.data.tokens import (
    TokenIds,
    build_token_list,
    min_ctc_frames,
    read_token_list,
    train_bpe,
    write_token_list,
)
from s3router.errors import ConfigError, DataError

TEXTS = ["aab c", "b a"]


def test_the_order_of_a_character_list():
    assert build_token_list(TEXTS) == ["<blank>", "<unk>", "<space>", "a", "b", "c", "<sos/eos>"]
    assert build_token_list(TEXTS[::-1]) == build_token_list(TEXTS)


def test_phones_are_separated_by_blanks():
    tokens = build_token_list(["t͡ʃ a o", "a"], "phn")
    assert tokens == ["<blank>", "<unk>", "a", "o", "t͡ʃ", "<sos/eos>"]
    ids = TokenIds(tokens, "phn")
    assert ids.encode("t͡ʃ a") == [4, 2]
    assert ids.decode([4, 2]) == "t͡ʃ a"


def test_espnet_tokenizes_the_same():
    tokenizer = pytest.importorskip("espnet2.text.char_tokenizer").CharTokenizer()
    ids = TokenIds(build_token_list(TEXTS))
    assert tokenizer.text2tokens("aab c") == ids.split("aab c")


def test_round_trip_through_a_file(tmp_path):
    tokens = build_token_list(["è in uso", "l'aiuto"])
    write_token_list(tmp_path / "new/tokens.txt", tokens)
    ids = TokenIds(read_token_list(tmp_path / "new/tokens.txt"))
    assert ids.decode(ids.encode("è l'uso")) == "è l'uso"


def test_unknown_tokens_are_named():
    ids = TokenIds(build_token_list(TEXTS))
    assert ids.unknown("a ß b x ß") == ["ß", "x"]
    with pytest.raises(DataError, match="not in the token list: ß x"):
        ids.encode("ßx")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<blank>\n<unk>\na\na\n<sos/eos>\n", "more than one line for 'a'"),
        ("<unk>\na\n<sos/eos>\n", "starts with <blank>"),
        ("<blank>\n<unk>\na\n", "ends with <sos/eos>"),
    ],
)
def test_broken_lists(tmp_path, content, expected):
    (tmp_path / "tokens.txt").write_text(content)
    with pytest.raises(DataError, match=expected):
        read_token_list(tmp_path / "tokens.txt")
    with pytest.raises(DataError, match="no such token list"):
        read_token_list(tmp_path / "none.txt")


def test_no_text_no_list():
    with pytest.raises(DataError, match="no text to build a token list from"):
        build_token_list([])


def test_ctc_needs_a_blank_between_equal_neighbours():
    assert min_ctc_frames("abc") == 3
    assert min_ctc_frames("aabb") == 6
    assert min_ctc_frames("") == 0


def test_wrong_types():
    with pytest.raises(ConfigError, match="unknown token type 'word'; known: char, phn, bpe"):
        TokenIds(["<blank>"], "word")
    with pytest.raises(ConfigError, match="bpe needs a sentencepiece model"):
        TokenIds(["<blank>"], "bpe")


def test_sentencepiece(tmp_path):
    pytest.importorskip("sentencepiece")
    texts = ["press one for more", "press two for less", "please press three for options", "or hold the line"] * 5
    tokens = train_bpe(texts, 30, tmp_path / "bpe")
    assert len(tokens) == 30  # sentencepiece's own <unk> <s> </s> make room for <blank> <unk> <sos/eos>
    ids = TokenIds(tokens, "bpe", tmp_path / "bpe.model")
    assert ids.decode(ids.encode("press three for options")) == "press three for options"
    assert len(ids.encode("press")) < 5
    assert [p.name for p in tmp_path.iterdir()] == ["bpe.model"]
    with pytest.raises(DataError, match="no sentencepiece model of 4000 units"):
        train_bpe(texts, 4000, tmp_path / "bpe2")


def test_command(five, tmp_path, capsys):
    assert main(["tokens", str(five), "--output", str(tmp_path / "tokens.txt")]) == 0
    assert read_token_list(tmp_path / "tokens.txt")[2] == "<space>"
    assert main(["tokens", str(tmp_path), "--output", str(tmp_path / "t2")]) == 1
    assert "wav.scp: no such file" in capsys.readouterr().err
    assert not (tmp_path / "t2").exists()
