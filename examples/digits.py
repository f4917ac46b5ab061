"""Train a small network on scikit-learn's digits and record it: the example of the README.

    python examples/digits.py --width 32 --lr 0.01
    localstore artifact get digits/model
    python examples/digits.py --evaluate artifacts/model:v0/weights.npz

The images ship with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import localstore

if TYPE_CHECKING:
    from numpy.typing import NDArray


def arguments() -> argparse.Namespace:
    """Hyper-parameters; `--ack` is for the demo, which kills a run and counts what it kept."""
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options]")
    parser.add_argument("--project", default="digits")
    parser.add_argument("--name", help="of the run; default: two words and a number")
    parser.add_argument("--width", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--lr", type=float, default=1e-2, help="learning rate")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alias", default="candidate", help="of the model's version")
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="test a model, train none")
    parser.add_argument("--prefix", default="", help="put before every name that is recorded")
    parser.add_argument("--ack", type=int, help="file handle that gets a byte after each log()")
    return parser.parse_args()


def split_images() -> list[NDArray[Any]]:
    """Images to train with and to test with, then their labels; always the same ones."""
    images, labels = load_digits(return_X_y=True)
    found: list[NDArray[Any]] = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
    )
    return found


def evaluate(file: Path) -> float:
    """The share of the test images that a saved model reads right."""
    _, images, _, labels = split_images()
    with np.load(file, allow_pickle=False) as weights:
        hidden = np.maximum(images @ weights["w1"] + weights["b1"], 0.0)
        guesses = (hidden @ weights["w2"] + weights["b2"]).argmax(axis=1)
    return float((guesses == labels).mean())


def train(args: argparse.Namespace, run: localstore.Run) -> MLPClassifier:
    """Some hundred steps, one `log` in each, and at the end what the network gets wrong."""
    train_x, test_x, train_y, test_y = split_images()
    network = MLPClassifier((args.width,), learning_rate_init=args.lr, random_state=args.seed)
    rng = np.random.default_rng(args.seed)
    prefix = args.prefix
    run.define_metric(f"{prefix}val_loss", summary="min")

    def log(values: dict[str, Any]) -> None:
        run.log({f"{prefix}{key}": value for key, value in values.items()})
        if args.ack is not None:
            os.write(args.ack, b".")

    for _ in range(args.steps):
        batch = rng.choice(len(train_x), args.batch, replace=False)
        network.partial_fit(train_x[batch], train_y[batch], classes=np.arange(10))
        log(
            {
                "loss": network.loss_,
                "val_loss": log_loss(test_y, network.predict_proba(test_x)),
                "accuracy": network.score(test_x, test_y),
            }
        )
    guesses = network.predict(test_x)
    wrong = [
        localstore.Image(
            test_x[at].reshape(8, 8), caption=f"{prefix}{test_y[at]} taken for {guesses[at]}"
        )
        for at in np.flatnonzero(guesses != test_y)[:4]
    ]
    log(
        {
            "confusion": localstore.plot.confusion_matrix(y_true=test_y, preds=guesses),
            "mistakes": wrong,
        }
    )
    return network


def log_model(args: argparse.Namespace, run: localstore.Run, network: MLPClassifier) -> None:
    """Keep the weights as a version of the model; no file of them lies on the disk."""
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    facts = {f"{args.prefix}accuracy": run.summary[f"{args.prefix}accuracy"]}
    model = localstore.Artifact(f"{args.prefix}model", type="model", metadata=facts)
    with model.new_file(f"{args.prefix}weights.npz", "wb") as file:
        np.savez(file, w1=w1, w2=w2, b1=b1, b2=b2)
    run.log_artifact(model, aliases=[args.alias])


def main() -> None:
    """Train and record, or test a model that was recorded."""
    args = arguments()
    if args.evaluate is not None:
        print(evaluate(args.evaluate))
        return
    prefix = args.prefix
    keys = ("width", "lr", "batch", "steps", "seed")
    config = {f"{prefix}{key}": getattr(args, key) for key in keys}
    run = localstore.init(project=args.project, name=args.name, config=config)
    network = train(args, run)
    print(f"{run.name}: accuracy {run.summary[f'{prefix}accuracy']:.4f}")
    log_model(args, run, network)
    run.finish()


if __name__ == "__main__":
    main()
