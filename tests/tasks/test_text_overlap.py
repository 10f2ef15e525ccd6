import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from radsweep.tasks.resample import patient_weights, weighted_sums
from radsweep.tasks.text_overlap import bleu, bleu_statistics, rouge_l, words

WORDS = [
    "no",
    "the",
    "heart",
    "is",
    "enlarged",
    "effusion",
    "left",
    "right",
    "small",
    "lung",
    "clear",
    "pneumothorax",
    "seen",
    "there",
]


def _texts(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        " ".join(generator.choice(WORDS, generator.integers(4, 40))).capitalize() + "."
        for _ in range(count)
    ]


def test_rouge_l_equals_rouge_score_s() -> None:
    peer = RougeScorer(["rougeL"], use_stemmer=False)
    for reference, candidate in zip(_texts(60, 0), _texts(60, 1), strict=True):
        expected = peer.score(reference, candidate)["rougeL"].fmeasure
        assert rouge_l(words(reference), words(candidate)) == pytest.approx(expected, abs=1e-12)


def test_rouge_l_of_an_empty_text_is_0() -> None:
    assert rouge_l(words("clear lungs"), []) == 0.0
    assert rouge_l([], []) == 0.0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_equals_sacrebleu_s_on_the_data_and_on_a_resample(order: int) -> None:
    references, candidates = _texts(80, 2), _texts(80, 3)
    pairs = [(words(r), words(c)) for r, c in zip(references, candidates, strict=True)]
    weights = patient_weights(np.array([f"p{i // 2}" for i in range(80)]), 3, seed=0)
    found = bleu(weighted_sums(weights, np.stack([bleu_statistics(*p) for p in pairs])), order)
    peer = BLEU(tokenize="none", max_ngram_order=order, smooth_method="none", force=True)
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(80), counts)
        hypotheses = [" ".join(pairs[row][1]) for row in rows]
        wanted = [" ".join(pairs[row][0]) for row in rows]
        expected = peer.corpus_score(hypotheses, [wanted]).score / 100
        assert found[draw] == pytest.approx(expected, abs=1e-9)


def test_bleu_of_texts_without_a_match_or_without_a_word_is_0() -> None:
    nothing = np.stack([bleu_statistics(["clear", "lungs"], []), bleu_statistics(["a"], ["b"])])
    assert bleu(nothing, 1).tolist() == [0.0, 0.0]


def test_a_short_text_pays_for_its_brevity() -> None:
    reference = words("the lungs are clear and the heart is normal")
    short = bleu(bleu_statistics(reference, reference[:4])[None], 1)[0]
    assert short == pytest.approx(np.exp(1 - 9 / 4))
