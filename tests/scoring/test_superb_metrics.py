"""SUPERB's metrics against values worked out by hand and against independent implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from s3router.errors import DataError
from s3router.scoring.accuracy import fold_mean, score_labels
from s3router.scoring.detection import equal_error_rate
from s3router.scoring.diarization import DiarizationErrors, diarization_errors
from s3router.scoring.mtwv import WholeSearch, maximum_term_weighted_value
from s3router.scoring.slots import score_slots, slots_of
from s3router.upstreams.s3prl_engine import load


def test_accuracy_is_sklearns():
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    random = np.random.default_rng(0)
    true, found = random.integers(0, 5, 200).tolist(), random.integers(0, 5, 200).tolist()
    score = score_labels(found, true)
    assert score.accuracy == pytest.approx(accuracy_score(true, found))
    assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, found))


def test_labels_of_several_slots_are_right_as_a_whole():
    score = score_labels([("a", "b"), ("a", "c")], [("a", "b"), ("a", "b")])
    assert (score.correct, score.total) == (1, 2)


def test_wilson_interval_of_a_textbook():
    # 15 of 20: Newcombe (1998) and any table give 0.531 to 0.888
    low, high = score_labels([1] * 15 + [0] * 5, [1] * 20).interval()
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)


def test_five_folds_or_none():
    assert fold_mean([0.6, 0.7, 0.5, 0.6, 0.6]).mean == pytest.approx(0.6)
    with pytest.raises(DataError, match="4 folds, expected 5"):
        fold_mean([0.6, 0.7, 0.5, 0.6])


@pytest.mark.parametrize("pair", [([], []), ([1], [1, 2])])
def test_accuracy_of_nothing(pair):
    with pytest.raises(DataError, match="need one for each"):
        score_labels(*pair)


def test_eer_by_hand():
    # accepted from the top: target, non-target, target, non-target; misses .5 meet false alarms .5 at the second
    assert equal_error_rate([1, 0, 1, 0], [4, 3, 2, 1]).eer == pytest.approx(0.5)
    assert equal_error_rate([1, 1, 0, 0], [4, 3, 2, 1]).eer == 0
    assert equal_error_rate([0, 0, 1, 1], [4, 3, 2, 1]).eer == 1
    assert equal_error_rate([1, 0, 1, 0], [1, 1, 1, 1]).eer == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_eer_is_the_root_of_the_interpolated_curve(seed: int):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve

    random = np.random.default_rng(seed)
    truth = np.r_[np.ones(70, int), np.zeros(130, int)]
    scores = np.round(random.normal(truth, 1.0), 1)  # with ties
    alarms, hits, _ = roc_curve(truth, scores, pos_label=1)
    wanted = brentq(lambda x: 1 - x - interp1d(alarms, hits)(x), 0, 1)
    assert equal_error_rate(truth, scores).eer == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("trials", "scores", "message"),
    [([1, 1], [1, 2], "needs both kinds"), ([1, 0], [1.0, np.nan], "NaN or infinite"), ([1, 0], [1.0], "one score")],
)
def test_eer_refuses(trials, scores, message):
    with pytest.raises(DataError, match=message):
        equal_error_rate(trials, scores)


REFERENCES = ["PLAY B-song let it be E-song BY B-artist the beatles E-artist", "STOP", "AT B-hour six E-hour"]
HYPOTHESES = ["PLAY B-song let it bee E-song BY THE BEATLES", "STOP", "AT B-minute six E-minute"]


def test_slots_by_hand():
    assert slots_of(REFERENCES[0]) == {"song": ["let it be"], "artist": ["the beatles"]}
    score = score_slots(HYPOTHESES, REFERENCES)
    assert score.type_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert score.value_cer == pytest.approx((1 + 11 + 3) / (9 + 11 + 3))
    with pytest.raises(DataError, match="no reference holds a slot"):
        score_slots(["a"], ["a"])


WORDS, KINDS = ["six", "ten past", "let it be", "x"], ["artist", "artists", "hour", "hour.x", "s"]


def sentence(random, most: int = 4) -> str:
    """A transcript with slots."""
    parts = []
    for kind in random.choice(KINDS, random.integers(0, most)):
        parts += ["AND", f"B-{kind} {random.choice(WORDS)} E-{kind}"] if random.random() < 0.7 else ["SO"]
    return " ".join(parts)


def damaged(random, text: str) -> str:
    """Some changes of the kind that a model makes: marks and letters that lack, are doubled, move or touch others."""
    tokens = text.split(" ")
    for _ in range(random.integers(0, 4)):
        at = random.integers(0, len(tokens) + 1)
        mark = f"{random.choice(['B', 'E'])}-{random.choice(KINDS)}"
        change = random.integers(0, 7)
        if change == 0:
            tokens[at : at + 1] = []
        elif change == 1:
            tokens.insert(at, mark)
        elif change == 2:
            tokens.insert(at, "")  # two blanks
        elif change == 3 and at < len(tokens):
            tokens[at] += random.choice(["s", mark, "<unk>", " "])
        elif change == 4 and at < len(tokens):
            tokens[at] = mark + tokens[at]
        elif change == 5 and at + 1 < len(tokens):
            tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
        else:
            tokens[at : at + 2] = tokens[at : at + 2][::-1]
    return " ".join(tokens)


@pytest.mark.parametrize("seed", range(20))
def test_slots_as_in_s3prl(seed):
    """Its unmodified functions, on sets of whole and of damaged transcripts; references are damaged, too."""
    slot_filling = load("s3prl.metric.slot_filling")
    random = np.random.default_rng(seed)
    wanted = [sentence(random) for _ in range(200)]
    found = [damaged(random, text if random.random() < 0.6 else sentence(random)) for text in wanted]
    for references in (wanted, [damaged(random, text) for text in wanted]):
        score = score_slots(found, references)
        assert score.type_f1 == pytest.approx(slot_filling.slot_type_f1(found, references), abs=1e-12)
        assert score.value_cer == pytest.approx(slot_filling.slot_value_cer(found, references), abs=1e-12)
        for pair in zip(found, references, strict=True):  # no error that another one makes good
            one = [[text, "B-day x E-day"] for text in pair]
            score = score_slots(*one)
            assert score.type_f1 == pytest.approx(slot_filling.slot_type_f1(*one), abs=1e-12), one
            assert score.value_cer == pytest.approx(slot_filling.slot_value_cer(*one), abs=1e-12), one


@pytest.mark.parametrize(
    ("found", "wanted", "f1", "cer"),
    [
        ("B-artist x E-artists", "B-artist x E-artist", 1.0, 0.0),  # a longer closing mark closes the slot
        ("B-s B-hour x E-hour E-s", "B-s x E-s", 1.0, 0.0),  # marks inside of a hypothesis are left out
        ("B-s B-x E-hour y E-s", "B-s E-hour y E-s", 1.0, 0.0),  # and openings first
        ("B-s x E-s", "B-s B-hour x E-hour E-s", 1.0, 14 / 15),  # but those of a reference are of its value
        (f"B-s {'y' * 100} E-s", "B-s x E-s", 1.0, 1.0),  # hopeless: as if there were none
        (f"B-s {'y' * 99} E-s", "B-s x E-s", 1.0, 99.0),
    ],
)
def test_oddities_of_slots(found, wanted, f1, cer):
    slot_filling = load("s3prl.metric.slot_filling")
    score = score_slots([found], [wanted])
    assert (score.type_f1, score.value_cer) == (f1, pytest.approx(cer))
    assert slot_filling.slot_type_f1([found], [wanted]) == f1
    assert slot_filling.slot_value_cer([found], [wanted]) == pytest.approx(cer)


def test_der_by_hand():
    reference = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0]], bool)
    swapped = reference[:, ::-1]
    assert diarization_errors(swapped, reference).der == 0  # speakers have no names
    found = np.array([[1, 0], [0, 0], [1, 0], [0, 1], [0, 1]], bool)
    errors = diarization_errors(found, reference)
    assert errors == DiarizationErrors(scored=5, missed=2, false_alarm=1, confused=0)
    assert (errors + errors).der == pytest.approx(3 / 5)
    assert diarization_errors(found, reference, collar=1).scored < errors.scored
    with pytest.raises(DataError, match="nobody speaks"):
        _ = diarization_errors(found, np.zeros_like(reference)).der


def test_der_as_in_s3prl_over_all_orders_of_speakers():
    import torch

    diarization = load("s3prl.metric.diarization")
    random = np.random.default_rng(1)
    found, reference = random.random((2, 50, 2)) < 0.4
    wanted = []
    for order in itertools.permutations(range(2)):
        pred = torch.from_numpy(np.where(found[:, order], 1.0, -1.0))[None]
        *_, scored, miss, alarm, error = diarization.calc_diarization_error(
            pred, torch.from_numpy(reference)[None], torch.tensor([50])
        )
        wanted.append((miss + alarm + error) / scored)
    assert diarization_errors(found, reference).der == pytest.approx(min(wanted))


def test_mtwv_by_hand():
    scores = {
        "q1": {"a": 3.0, "b": 1.0, "c": 0.0},
        "q2": {"a": 0.5, "b": 2.0, "c": 2.5},
        "q3": dict.fromkeys("abc", 9.0),
    }
    hits = {"q1": {"a"}, "q2": {"b"}, "q3": set()}
    # from the top: a hit of q1 (+1/2), a false alarm of q2 (−beta/2/2), the hit of q2 (+1/2)
    assert maximum_term_weighted_value(scores, hits, beta=1.0).mtwv == pytest.approx(0.75)
    best = maximum_term_weighted_value(scores, hits)
    assert (best.mtwv, best.threshold, best.queries) == (0.5, 3.0, 2)


def test_mtwv_against_every_threshold():
    random = np.random.default_rng(2)
    files = range(30)
    scores = {q: {f: float(random.normal()) for f in files} for q in range(8)}
    hits = {q: {f for f in files if random.random() < 0.1} | {0} for q in range(8)}
    for beta in (0.1, 1.0, 12.49):
        wanted = 0.0
        for threshold in {v for row in scores.values() for v in row.values()}:
            losses = []
            for q, row in scores.items():
                said = {f for f, v in row.items() if v >= threshold}
                miss = len(hits[q] - said) / len(hits[q])
                alarm = len(said - hits[q]) / (len(files) - len(hits[q]))
                losses.append(miss + beta * alarm)
            wanted = max(wanted, 1 - float(np.mean(losses)))
        assert maximum_term_weighted_value(scores, hits, beta).mtwv == pytest.approx(wanted)


def test_mtwv_of_a_part_is_what_the_scorer_of_the_whole_gives():
    """English queries and documents are scored, those of another language are missed without a false alarm."""
    random = np.random.default_rng(3)
    english, documents = range(40), range(100)
    truth = {q: {f for f in english if random.random() < 0.1} | {q} for q in range(6)}
    scores = {q: {f: float(random.normal(3 * (f in truth[q]))) for f in english} for q in truth}
    truth[0] |= {77}  # a document of another language, missed for good
    truth[1] = {78}  # found nowhere here: its false alarms count
    truth |= {q: {90} for q in range(6, 10)}
    wanted = 0.0
    for threshold in {v for row in scores.values() for v in row.values()}:
        total = 0.0
        for q, files in truth.items():
            said = {f for f, v in scores.get(q, {}).items() if v >= threshold}
            alarms = len(said - files) / (len(documents) - len(files))
            total += 1 - len(files - said) / len(files) - 12.49 * alarms
        wanted = max(wanted, total / len(truth))
    hits = {q: truth[q] & set(english) for q in scores}
    whole = WholeSearch(len(documents), len(truth), {q: len(truth[q]) for q in scores})
    found = maximum_term_weighted_value(scores, hits, beta=12.49, whole=whole)
    assert found.mtwv == pytest.approx(wanted)
    assert found.queries == 6
    assert 0 < found.mtwv != pytest.approx(maximum_term_weighted_value(scores, hits, beta=12.49).mtwv)


def test_mtwv_of_a_part_by_hand():
    """One of two queries was searched, in 2 of 12 files: half of 1, less beta / 11 per false alarm."""
    scores, hits = {"q": {"a": 1.0, "b": 2.0}}, {"q": {"a"}}
    whole = WholeSearch(files=12, queries=2, hits={"q": 1})
    assert maximum_term_weighted_value(scores, hits, 1.1, whole).mtwv == pytest.approx((1 - 0.1) / 2)
    assert maximum_term_weighted_value(scores, hits, 1.1).mtwv == 0.0


def test_mtwv_refuses():
    with pytest.raises(DataError, match="no query has a hit"):
        maximum_term_weighted_value({"q": {"a": 1.0}}, {"q": set()})
    with pytest.raises(DataError, match="no scores for 1 queries"):
        maximum_term_weighted_value({}, {"q": {"a"}})
