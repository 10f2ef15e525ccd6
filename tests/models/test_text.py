"""The tokenizer is a function of its reports; long reports are cut as the policy says; the tower is
MI2's."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from radsweep.errors import SpecError
from radsweep.models.sections import impression_first, sentences
from radsweep.models.text import TextTower
from radsweep.models.tokens import POLICIES, TextEncoder, train_tokenizer, vocabulary

REPORTS = [
    f"FINDINGS: The heart is enlarged. Tip {i / 10:.1f} cm above the carina. No effusion. "
    f"IMPRESSION: Cardiomegaly of grade {i}."
    for i in range(40)
]
CODE = "from tests.models.test_text import *; print(train_tokenizer(REPORTS, 150))"


def encode(text: str, length: int, policy: str, seed: int = 0) -> list[int]:
    encoder = TextEncoder(tokenizer=train_tokenizer(REPORTS, 150), length=length, policy=policy)
    return encoder.encode(text, np.random.default_rng(seed)).tolist()


def test_the_same_reports_give_the_same_tokenizer_in_any_order_and_process() -> None:
    here = train_tokenizer(REPORTS, 150)
    assert train_tokenizer(reversed(REPORTS), 150) == here
    other = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == here


def test_ids_begin_with_start_and_end_with_the_highest_id_and_padding() -> None:
    known = vocabulary(train_tokenizer(REPORTS, 150))
    ids = encode("The heart is enlarged.", 12, "truncate")
    assert known.size <= 150 and known.end == known.size - 1 and known.pad == 0
    assert ids[0] == known.start and ids.count(known.end) == 1
    end = ids.index(known.end)
    assert not any(ids[end + 1 :]) and 0 not in ids[:end] and max(ids) == known.end
    assert encode("THE HEART is\n enlarged .", 12, "truncate") == ids


def test_a_tokenizer_without_reports_still_reads_letters() -> None:
    known = vocabulary(train_tokenizer([], 200))
    assert known.size < 60
    with pytest.raises(SpecError, match="too small"):
        train_tokenizer([], 20)


def test_policies_keep_what_they_promise_of_a_long_report() -> None:
    report = "FINDINGS: The heart is enlarged. No effusion. IMPRESSION: Cardiomegaly of grade 3."
    whole = encode(report, 60, "truncate")
    assert encode(report, 8, "truncate")[:7] == whole[:7]
    moved = encode("IMPRESSION: Cardiomegaly of grade 3. FINDINGS: The heart is", 60, "truncate")
    assert encode(report, 12, "impression_first")[:11] == moved[:11]


def test_sentences_are_kept_whole_and_in_random_order() -> None:
    parts = ["The heart is enlarged.", "No effusion.", "Cardiomegaly of grade 3."]
    report = f"FINDINGS: {parts[0]} {parts[1]} IMPRESSION: {parts[2]}"
    alone = {tuple(i for i in encode(part, 30, "truncate") if i)[1:-1]: part for part in parts}
    seen = set()
    for seed in range(30):
        ids = [i for i in encode(report, 11, "sentences", seed) if i][1:-1]
        kept = []
        while ids:
            match = next(p for p in alone if tuple(ids[: len(p)]) == p)
            kept.append(alone[match])
            ids = ids[len(match) :]
        seen.add(tuple(kept))
    assert {order[0] for order in seen} == set(parts)
    assert all(0 < len(order) < 3 and len(set(order)) == len(order) for order in seen)


def test_a_sentence_that_is_too_long_is_cut() -> None:
    ids = encode("The heart is enlarged and the carina is above the tip", 6, "sentences")
    assert ids[:5] == encode("The heart is enlarged", 6, "truncate")[:5] and 0 not in ids


def test_sections_and_sentences_are_found() -> None:
    report = "Findings: Tip 3.2 cm high. No effusion.\nConclusion : Normal."
    assert sentences(report) == ["Tip 3.2 cm high.", "No effusion.", "Normal."]
    assert impression_first(report).startswith("Conclusion : Normal. Findings: Tip 3.2")
    assert impression_first("No heading.") == "No heading."


def test_unknown_policies_and_lengths_are_refused() -> None:
    for length, policy, message in ((20, "all", "known: truncate"), (2, POLICIES[0], "3 tokens")):
        with pytest.raises(SpecError, match=message):
            TextEncoder(tokenizer="{}", length=length, policy=policy)
    with pytest.raises(SpecError, match="multiple of text_heads"):
        TextTower(vocabulary=10, length=4, width=10, layers=1, heads=3)


def slow_tower(tower: TextTower, ids: torch.Tensor, heads: int) -> torch.Tensor:
    """The same text encoder out of torch's own attention, one text at a time."""
    answers = []
    for text in ids:
        x = (tower.token_embedding(text) + tower.positions)[None]
        for block in tower.blocks:
            attention = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
            attention.in_proj_weight.data, attention.in_proj_bias.data = (
                block.project.weight.data, block.project.bias.data,
            )  # fmt: skip
            attention.out_proj.load_state_dict(block.out.state_dict())
            normed = block.norm1(x)
            x = x + attention(normed, normed, normed, key_padding_mask=(text == 0)[None])[0]
            hidden = block.widen(block.norm2(x))
            x = x + block.narrow(hidden * torch.sigmoid(1.702 * hidden))
        answers.append(tower.norm(x)[0, int(text.argmax())])
    return torch.stack(answers)


def test_the_tower_is_torchs_attention_with_padding_masked() -> None:
    torch.manual_seed(0)
    tower = TextTower(vocabulary=12, length=6, width=16, layers=2, heads=4).eval()
    ids = torch.tensor([[2, 5, 6, 11, 0, 0], [2, 7, 11, 0, 0, 0], [2, 3, 4, 5, 6, 11]])
    with torch.no_grad():
        assert torch.allclose(tower(ids), slow_tower(tower, ids, 4), atol=1e-5)
        longer = tower(torch.tensor([[2, 7, 11, 0, 0, 0]]))
        assert torch.allclose(longer[0], tower(ids)[1], atol=1e-6)
