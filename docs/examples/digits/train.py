"""Teach a small neural network to read handwritten digits, the way a real training job goes about it.

The data are the 1,797 images of 8 x 8 pixels that ship with scikit-learn. One line a step is printed; `metrics.json`,
`plots/learning.png` and `model.npz` are left at the end. After each step a checkpoint is renamed into place, and a run
that is told to resume (`RUNNER_RESUMED=1`) goes on from it and comes to the very numbers that an unbroken run gives.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HIDDEN, CLASSES, BATCH = 64, 10, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    checkpoint = Path(os.environ.get("RUNNER_CKPT_DIR", "ckpt")) / "state.npz"
    train_x, test_x, train_y, test_y = load()

    weights, history = fresh(options.seed, train_x.shape[1]), []
    if os.environ.get("RUNNER_RESUMED") == "1" and checkpoint.exists():
        weights, history = restore(checkpoint)
        print(f"resumed after step {len(history)}")
    for step in range(len(history) + 1, options.epochs + 1):
        began = time.perf_counter()
        loss = learn(weights, train_x, train_y, options.learning_rate, np.random.default_rng([options.seed, step]))
        accuracy = float((predict(weights, test_x) == test_y).mean())
        history.append([step, loss, accuracy])
        print(
            f"step {step:3d}  loss {loss:.4f}  accuracy {accuracy:.4f}  {time.perf_counter() - began:.3f} s", flush=True
        )
        save(checkpoint, weights, history)
    finish(weights, history)


def load() -> list[np.ndarray]:
    """Training and test images, scaled to 0..1, and their digits; always split alike."""
    images, digits = load_digits(return_X_y=True)
    return train_test_split(images / 16.0, digits, test_size=0.25, random_state=0, stratify=digits)


def fresh(seed: int, pixels: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {
        "w1": chance.normal(0, np.sqrt(2 / pixels), (pixels, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": chance.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)),
        "b2": np.zeros(CLASSES),
    }


def learn(
    weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, rate: float, chance: np.random.Generator
) -> float:
    """One pass over the data in small batches, changing `weights`; the mean cross-entropy on the way."""
    losses = []
    for batch in np.array_split(chance.permutation(len(x)), len(x) // BATCH):
        hidden = np.maximum(x[batch] @ weights["w1"] + weights["b1"], 0)
        odds = softmax(hidden @ weights["w2"] + weights["b2"])
        losses.append(-np.log(odds[np.arange(len(batch)), y[batch]] + 1e-12).mean())
        error = odds
        error[np.arange(len(batch)), y[batch]] -= 1
        error /= len(batch)
        below = (error @ weights["w2"].T) * (hidden > 0)
        weights["w2"] -= rate * hidden.T @ error
        weights["b2"] -= rate * error.sum(axis=0)
        weights["w1"] -= rate * x[batch].T @ below
        weights["b1"] -= rate * below.sum(axis=0)
    return float(np.mean(losses))


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def predict(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    return (hidden @ weights["w2"] + weights["b2"]).argmax(axis=1)


def save(path: Path, weights: dict[str, np.ndarray], history: list[list[float]]) -> None:
    """Written beside its place and renamed into it: whoever looks sees a whole checkpoint or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("." + path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, history=np.array(history), **weights)
    part.replace(path)


def restore(path: Path) -> tuple[dict[str, np.ndarray], list[list[float]]]:
    with np.load(path) as kept:
        weights = {name: kept[name] for name in ("w1", "b1", "w2", "b2")}
        return weights, [[int(step), loss, accuracy] for step, loss, accuracy in kept["history"].tolist()]


def finish(weights: dict[str, np.ndarray], history: list[list[float]]) -> None:
    """What the job is for: the figures, the picture and the model."""
    steps, losses, accuracies = zip(*history, strict=True)
    metrics = {"steps": len(steps), "loss": losses[-1], "accuracy": accuracies[-1], "best_accuracy": max(accuracies)}
    Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    np.savez("model.npz", **weights)
    Path("plots").mkdir(exist_ok=True)
    figure, left = plt.subplots(figsize=(6, 4))
    left.plot(steps, losses, color="tab:red")
    left.set(xlabel="step", ylabel="training loss")
    right = left.twinx()
    right.plot(steps, accuracies, color="tab:blue")
    right.set_ylabel("test accuracy")
    figure.tight_layout()
    figure.savefig("plots/learning.png", dpi=120)
    print(f"accuracy {metrics['accuracy']:.4f} after {metrics['steps']} steps")


if __name__ == "__main__":
    main()
