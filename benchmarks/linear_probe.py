"""The linear probe's whole path against scikit-learn: seconds, and how far apart the optima are.

``python benchmarks/linear_probe.py [--images N] [--width D] [--labels L] [--strengths S]`` makes
features with a planted answer, solves every label at every strength both ways in one process, and
prints one table. The sizes of the goal are 8,000 x 768 x 12 (the default) and, with ``--large``,
100,000 x 1,024 x 14. scikit-learn solves the same problems one by one: once to its default
tolerance, as most users leave it, and once to one that reaches the optimum; ``--sample K`` times K
of the problems, evenly over labels and strengths, and scales their time up.

``--eva-python PATH`` names a Python that has kaiko-eva, which pins so much that it wants a place of
its own. There its offline probe fits the same images (``eva_probe.py``; imports are not counted). A
second table has the seconds of both and the mean AUPRC over labels on a quarter as many held-out
images; another quarter is val, by which each side makes its choice.
"""

import argparse
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from radsweep.probes.base import FrozenFeatures, Labelled
from radsweep.probes.linear_pooled import LinearPooled
from radsweep.probes.logistic import logistic_path


def planted(
    images: int, width: int, labels: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlated standardised features [n, D] and labels [n, L] of 1 and 0 that depend on them."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((width, width))
    mixing *= np.arange(1, width + 1)[:, None] ** -0.5
    features = generator.standard_normal((images, width)) @ mixing
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    truth = generator.standard_normal((width, labels)) * (2 / width) ** 0.5
    logits = features @ truth + np.linspace(-3, 0, labels)
    return features, (generator.random((images, labels)) < 1 / (1 + np.exp(-logits))).astype(float)


def loss(
    features: NDArray[np.float64],
    target: NDArray[np.float64],
    weights: NDArray[np.float64],
    bias: float,
    strength: float,
) -> float:
    """What both minimise: mean log loss + strength / 2 * |w|^2."""
    logits = features @ weights + bias
    mean = np.mean(np.logaddexp(0, logits) - target * logits)
    return float(mean + 0.5 * strength * weights @ weights)


def split(features: NDArray[np.float64], targets: NDArray[np.float64], part: slice) -> Labelled:
    """Some of the images, as a probe takes them."""
    vectors = features[part].astype(np.float32)
    return Labelled(
        features=FrozenFeatures(pooled=vectors, mean=vectors), targets=targets[part].astype("f4")
    )


def beside_eva(
    python: str, train: Labelled, val: Labelled, test: Labelled, strengths: int, device: str
) -> Table:
    """Seconds and mean AUPRC of the linear probe and of kaiko-eva's, fitted to the same."""
    began = time.perf_counter()
    probe = LinearPooled.build({"strengths": strengths})
    fitted = probe.fit(train, val, {}, 0, torch.device(device))
    ours = time.perf_counter() - began
    arrays = {"train_targets": train.targets, "val_targets": val.targets}
    for name, part in (("train", train), ("val", val), ("test", test)):
        arrays[name] = part.features.pooled
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch) / "given.npz", Path(scratch) / "out.npz"
        np.savez(given, **arrays)
        script = Path(__file__).with_name("eva_probe.py")
        command = [python, "-W", "ignore", str(script), str(given), str(out)]
        subprocess.run(command, check=True, cwd=scratch)
        with np.load(out) as found:
            theirs, logits, steps = float(found["seconds"]), found["logits"], int(found["steps"])
    table = Table(title="one fit, all labels")
    for name in ("probe", "seconds", "against ours", "AUPRC"):
        table.add_column(name, justify="left" if name == "probe" else "right")
    for name, seconds, said in (
        (f"radsweep linear_pooled, {strengths} strengths", ours, fitted.predict(test.features)),
        (f"kaiko-eva, offline, {steps} steps", theirs, logits),
    ):
        area = average_precision_score(test.targets, said, average="macro")
        table.add_row(name, f"{seconds:.1f}", f"{seconds / ours:.1f}", f"{area:.4f}")
    return table


def main() -> None:
    """Solve each way, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--labels", type=int, default=12)
    parser.add_argument("--strengths", type=int, default=9)
    parser.add_argument("--large", action="store_true", help="100,000 x 1,024 x 14")
    parser.add_argument("--sample", type=int, help="problems that scikit-learn solves; all if none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--eva-python", help="a Python that has kaiko-eva; left out if none")
    given = parser.parse_args()
    if given.large:
        given.images, given.width, given.labels = 100_000, 1_024, 14
    held = given.images // 4
    every = planted(given.images + 2 * held, given.width, given.labels, seed=0)
    features, targets = (values[: given.images] for values in every)
    strengths = np.logspace(-3, 1, given.strengths)
    began = time.perf_counter()
    path = logistic_path(
        torch.from_numpy(features).to(given.device),
        torch.from_numpy(targets).to(given.device),
        torch.from_numpy(strengths).to(given.device),
    )
    weights, biases = path.weights.cpu().numpy(), path.biases.cpu().numpy()
    ours = time.perf_counter() - began
    problems = [(s, label) for s in range(given.strengths) for label in range(given.labels)]
    count = min(len(problems), given.sample or len(problems))
    chosen = [problems[i] for i in np.linspace(0, len(problems) - 1, count).round().astype(int)]
    table = Table(
        title=f"{given.images} x {given.width}, {given.labels} labels x {given.strengths} "
        f"strengths, {torch.get_num_threads()} threads, {given.device}"
    )
    for name in ("solver", "seconds", "against ours", "weights from ours", "loss above ours"):
        table.add_column(name, justify="left" if name == "solver" else "right")
    table.add_row("radsweep", f"{ours:.1f}", "1.0", "", "")
    for tolerance, word in ((1e-4, "default tolerance"), (1e-7, "tolerance 1e-7")):
        theirs, apart, above = 0.0, 0.0, 0.0
        for s, label in chosen:
            target, strength = targets[:, label], float(strengths[s])
            model = LogisticRegression(
                C=1 / (strength * given.images), tol=tolerance, max_iter=10_000
            )
            began = time.perf_counter()
            model.fit(features, target)
            theirs += time.perf_counter() - began
            found, peer = weights[s, label], model.coef_[0]
            apart = max(apart, float(np.linalg.norm(found - peer) / np.linalg.norm(peer)))
            reached = loss(features, target, found, float(biases[s, label]), strength)
            theirs_is = loss(features, target, peer, float(model.intercept_[0]), strength)
            above = max(above, theirs_is - reached, key=abs)
        theirs *= len(problems) / count
        table.add_row(
            f"scikit-learn, {word} ({count} of {len(problems)} problems timed)",
            f"{theirs:.1f}",
            f"{theirs / ours:.1f}",
            f"{apart:.1e}",
            f"{above:.1e}",
        )
    Console(width=140).print(table)
    if given.eva_python is None:
        print("kaiko-eva's probe is left out: --eva-python PATH names a Python that has it")
        return
    ends = 0, given.images, given.images + held, given.images + 2 * held
    parts = [split(*every, slice(*bounds)) for bounds in pairwise(ends)]
    Console(width=140).print(beside_eva(given.eva_python, *parts, given.strengths, given.device))


if __name__ == "__main__":
    main()
