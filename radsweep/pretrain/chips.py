"""How fast a GPU multiplies matrices at best: what model FLOPs utilisation (MFU) is a share of."""

DENSE_BF16_FLOPS: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("A30", 165e12),
    ("L40S", 362e12),
    ("L4", 121e12),
)
"""(part of the device's name, dense bf16 FLOPs a second), the first that matches: NVIDIA's data
sheets, their figures "with sparsity" halved. 2 FLOPs per multiply-add, as in ``flops.py``."""


def peak_flops(device: str, precision: str) -> float | None:
    """FLOPs a second of one device at best, or None where that is not known.

    Args:
        device: as ``torch.cuda.get_device_name`` says it, or ``cpu``.
        precision: of the recipe; only for ``bf16`` is there a rate that all data sheets mean alike,
            and none for a slice of a GPU (MIG).
    """
    words = device.split()
    if precision != "bf16" or "MIG" in words:
        return None
    for name, rate in DENSE_BF16_FLOPS:
        if all(any(word.split("-")[0] == part for word in words) for part in name.split()):
            return rate
    return None
