import numpy as np
import pytest
import torch

from radsweep.errors import SpecError
from radsweep.paradigms.prompts import ABSENT, PRESENT, WORDS, every_prompt
from radsweep.probes.base import FrozenFeatures, Labelled, PromptSpace
from radsweep.probes.zero_shot import ZeroShot, logits

CPU = torch.device("cpu")


def _unit(*shape: int) -> np.ndarray:
    vectors = np.random.default_rng(len(shape)).standard_normal(shape)
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype("f4")
    return unit


SPACE = PromptSpace(images=_unit(6, 8), present=_unit(3, 4, 8), absent=-_unit(3, 4, 8), scale=20.0)


@pytest.mark.parametrize("templates", [1, 3, 4])
def test_logits_are_those_of_a_softmax_over_the_two_averaged_sentences(templates: int) -> None:
    found = logits(SPACE, templates)
    assert found.dtype == np.float32
    for i, image in enumerate(SPACE.images):
        for label in range(3):
            cosines = []
            for said in (SPACE.present, SPACE.absent):
                mean = sum(said[label, k] for k in range(templates)) / templates
                cosines.append(float(image @ mean / np.linalg.norm(mean)))
            there = torch.softmax(torch.tensor(cosines) * SPACE.scale, dim=0)[0]
            assert 1 / (1 + np.exp(-float(found[i, label]))) == pytest.approx(
                float(there), abs=1e-5
            )


def test_the_val_score_is_the_log_loss_of_known_labels_alone() -> None:
    features = FrozenFeatures(pooled=SPACE.images, mean=SPACE.images, prompts=SPACE)
    targets = np.array([[1, 0, np.nan]] * 6, np.float32)
    labelled = Labelled(features=features, targets=targets)
    fitted = ZeroShot.build({}).fit(labelled, labelled, {}, 0, CPU)
    chance = 1 / (1 + np.exp(-fitted.predict(features).astype(float)))
    expected = np.log(np.concatenate([chance[:, 0], 1 - chance[:, 1]])).mean()
    assert fitted.val_score == pytest.approx(expected, abs=1e-5)


def test_more_templates_than_there_are_or_none_or_no_prompts_are_refused() -> None:
    with pytest.raises(SpecError, match="at most 4"):
        logits(SPACE, 5)
    with pytest.raises(SpecError, match="at least 1"):
        ZeroShot.build({"templates": 0})
    bare = FrozenFeatures(pooled=SPACE.images, mean=SPACE.images)
    labelled = Labelled(features=bare, targets=np.zeros((6, 1), np.float32))
    with pytest.raises(SpecError, match="text_probes"):
        ZeroShot.build({}).fit(labelled, labelled, {}, 0, CPU)


@pytest.mark.parametrize("name", [*WORDS, "pneumothorax", "pleural_thickening", "no_finding"])
def test_both_states_of_a_label_have_as_many_sentences_and_none_denies_twice(name: str) -> None:
    there, not_there = every_prompt(name, PRESENT), every_prompt(name, ABSENT)
    assert len(there) == len(not_there) == 4
    assert not set(there) & set(not_there)
    assert not any("no no" in said.lower() or "_" in said for said in (*there, *not_there))
    if name != "no_finding":
        word = WORDS.get(name, name.replace("_", " "))
        assert all(word in said.lower() for said in (*there, *not_there))
