"""Train a small network on scikit-learn's digits and record it: the example of the README.

    python examples/digits.py --width 32 --lr 0.01

The images ship with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import localstore


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
    parser.add_argument("--prefix", default="", help="put before the names of metrics and config")
    parser.add_argument("--ack", type=int, help="file handle that gets a byte after each log()")
    return parser.parse_args()


def main() -> None:
    """Train for some hundred steps, one `log` in each."""
    args = arguments()
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
    )
    model = MLPClassifier((args.width,), learning_rate_init=args.lr, random_state=args.seed)
    rng = np.random.default_rng(args.seed)
    prefix = args.prefix

    config = {f"{prefix}{key}": getattr(args, key) for key in ("width", "lr", "batch", "seed")}
    run = localstore.init(project=args.project, name=args.name, config=config)
    run.define_metric(f"{prefix}accuracy", summary="max")
    for _ in range(args.steps):
        batch = rng.choice(len(train_x), args.batch, replace=False)
        model.partial_fit(train_x[batch], train_y[batch], classes=np.arange(10))
        run.log(
            {
                f"{prefix}loss": model.loss_,
                f"{prefix}val_loss": log_loss(test_y, model.predict_proba(test_x)),
                f"{prefix}accuracy": model.score(test_x, test_y),
            }
        )
        if args.ack is not None:
            os.write(args.ack, b".")
    run.finish()


if __name__ == "__main__":
    main()
