"""Settings of the report probe for language models that are not trained from nothing.

``Protocol(tasks=("reports",), settings=lora_7b("vicuna-7b-v1.5"))``: the folder, in the layout of
transformers, must lie on every machine that runs trials, as must the extra ``lora``.
"""

from radsweep.specs import Scalar


def lora_7b(language_model: str) -> dict[str, Scalar]:
    """A model of 7 billion weights with LoRA, in bfloat16, after LLaVA-Rad (Chaves et al. 2024).

    Published (its training scripts): projector alone at 1e-3, then projector and LoRA with alpha
    128 at 1e-4, no decay. Ours: rank 64; 257 visual tokens for every encoder, where it had those of
    one encoder; steps instead of epochs, so that the protocol's compute is fixed; batches of 16; a
    search around the published rate.

    Args:
        language_model: folder of the model, such as ``vicuna-7b-v1.5``.
    """
    return {
        "report.language_model": language_model,
        "report.adapt": "lora",
        "report.precision": "bf16",
        "report.lora_rank": 64,
        "report.lora_alpha": 128,
        "report.token_side": 16,
        "report.projector_steps": 1000,
        "report.projector_learning_rate": 1e-3,
        "report.steps": 3000,
        "report.batch_size": 16,
        "report.learning_rate": 1e-4,
        "report.learning_rate_low": 3e-5,
        "report.learning_rate_high": 3e-4,
        "report.weight_decay": 0.0,
        "report.max_tokens": 256,
        "report.predict_batch_size": 32,
    }
