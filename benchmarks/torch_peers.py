"""PyTorch implementations of the same experiments, as peers for jaxrank's speed.

    python benchmarks/torch_peers.py dataset work.npz --epochs=3 --warmup=1
    python benchmarks/torch_peers.py memory work.npz --epochs=3 --warmup=1
    python benchmarks/torch_peers.py vmap work.npz --epochs=3 --warmup=1 --trials=8

The peers: `dataset` is the usual script, with a Dataset that gives one pair at a time and a
DataLoader; `memory` takes its batches from a tensor by index; `vmap` trains trials of equal shape
side by side. All train one experiment after the other and need neither jax nor jaxrank.

`work.npz` holds features_ND, pairs_M2, preference_M, series_M and split_M (0 trains, 1 validates),
and `experiments`, the JSON of a list of hyperparameters. The output is a line of JSON for each
experiment and one for the process.

Axis letters: P trials, B pairs of a batch, D features, N photos, M pairs.
"""

import argparse
import json
import random
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

TRAIN, VALIDATION = 0, 1
CHUNK = 512  # pairs that are validated at a time
Experiment = dict[str, Any]
# Trains for one epoch and validates: (training loss, validation accuracy).
Epoch = Callable[[], tuple[float, float]]
Batch = tuple[Tensor, Tensor]  # inputs [2B, D] and y [B]
Batches = Callable[[], Iterator[Batch]]


class Data(NamedTuple):
    """Data of an experiment.

    Attributes:
      features_ND: float32, standardised.
      pairs_M2: int64, rows of the features.
      y_M: float32, 1 where photo a is preferred, -1 where photo b is, 0 where neither.
      series_M: int64.
      train, val: int64, rows of the pairs.
    """

    features_ND: Tensor
    pairs_M2: Tensor
    y_M: Tensor
    series_M: Tensor
    train: Tensor
    val: Tensor

    def batch(self, rows: Tensor) -> Batch:
        """Inputs and y of rows [..., B]: every pair's photo a, then every photo b [..., 2B, D]."""
        photos = self.pairs_M2[rows].movedim(-1, -2).flatten(-2)
        return self.features_ND[photos], self.y_M[rows]

    def accuracy(self, hits: Tensor) -> Tensor:
        return hits / self.y_M[self.val].abs().sum()


def main() -> None:
    began = time.time()
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("work")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=1, help="untimed epochs first")
    parser.add_argument("--trials", type=int, default=1, help="of each experiment, for vmap")
    parser.add_argument("--fused", action="store_true", help="AdamW(fused=True)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, for memory")
    parser.add_argument("--device", default="cpu", help="or cuda, for memory and vmap")
    parser.add_argument("--launched", type=float, default=began, help="time.time() of the launch")
    given = parser.parse_args()
    if given.trials != 1 and given.peer != "vmap":
        parser.error("--trials is for vmap; the other peers train one at a time")
    if given.device != "cpu" and given.peer == "dataset":
        parser.error("--device is for memory and vmap")
    torch.set_default_device(given.device)
    with np.load(given.work, allow_pickle=False) as file:
        arrays = dict(file)
    for experiment in json.loads(str(arrays["experiments"])):
        experiment |= {"fused": given.fused, "compile": given.compile}
        random.seed(0)
        torch.manual_seed(0)
        times = [time.perf_counter()]
        data = Data(*(part.to(given.device) for part in prepare(arrays, experiment["columns"])))
        epoch = PEERS[given.peer](data, experiment, given.trials)
        times.append(time.perf_counter())
        measured = []
        for _ in range(given.warmup + given.epochs):
            measured.append(epoch())
            times.append(time.perf_counter())
        seconds = [end - start for start, end in pairwise(times)]
        line = {
            "name": experiment["name"],
            "setup_seconds": seconds[0],
            "epoch_seconds": seconds[1 + given.warmup :],
            "train_loss": [loss for loss, _ in measured],
            "val_accuracy": [accuracy for _, accuracy in measured],
            "trials": given.trials,
        }
        print(json.dumps(line), flush=True)
    process = {
        "total_seconds": time.time() - given.launched,
        "max_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(process))


def prepare(arrays: dict[str, np.ndarray], columns: list[int]) -> Data:
    """Makes the data of these columns, standardised on the training photos."""
    split_M = torch.from_numpy(arrays["split_M"])
    pairs_M2 = torch.from_numpy(arrays["pairs_M2"]).long()
    train = torch.nonzero(split_M == TRAIN)[:, 0]
    features_ND = torch.from_numpy(arrays["features_ND"][:, columns])
    std, mean = torch.std_mean(features_ND[pairs_M2[train].unique()], dim=0, correction=0)
    features_ND.sub_(mean).div_(torch.where(std > 0, std, torch.inf))
    return Data(
        features_ND=features_ND,
        pairs_M2=pairs_M2,
        y_M=torch.sign(torch.from_numpy(arrays["preference_M"]) - 0.5),
        series_M=torch.from_numpy(arrays["series_M"]).long(),
        train=train,
        val=torch.nonzero(split_M == VALIDATION)[:, 0],
    )


def make_model(data: Data, experiment: Experiment) -> nn.Module:
    """[Linear, ReLU, Dropout]* -> Linear(1) without bias."""
    layers: list[nn.Module] = []
    widths = [data.features_ND.shape[1], *experiment["hidden_dims"]]
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(experiment["dropout"])]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1, bias=False))


def make_optimizer(params: list[Tensor], experiment: Experiment) -> torch.optim.Optimizer:
    """AdamW in PyTorch's default form, or fused.

    No other form, of PyTorch or written by hand, was as fast on a CPU.
    """
    rate, decay = experiment["learning_rate"], experiment["weight_decay"]
    fused = True if experiment["fused"] else None
    return torch.optim.AdamW(params, lr=rate, weight_decay=decay, fused=fused)


def batch_loss(scores: Tensor, y_B: Tensor, margin: float) -> Tensor:
    """Margin ranking loss of scores [2B, 1], a mean over the pairs that have a direction."""
    score_a, score_b = scores[:, 0].chunk(2)
    loss_B = torch.relu(margin - y_B * (score_a - score_b)) * y_B.abs()
    return loss_B.sum() / y_B.abs().sum().clamp(min=1.0)


def count_hits(scores: Tensor, y_B: Tensor) -> Tensor:
    """Number of correctly ordered pairs; equal scores count half, pairs without direction zero."""
    score_a, score_b = scores[:, 0].chunk(2)
    return (0.5 * (y_B.abs() + torch.sign(score_a - score_b) * y_B)).sum()


class PairDataset(Dataset):
    """Pairs of the given rows, one at a time: features of photo a and of photo b, and y."""

    def __init__(self, data: Data, rows: Tensor):
        self.features_ND = data.features_ND
        self.pairs = data.pairs_M2[rows].tolist()
        self.y = data.y_M[rows]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        a, b = self.pairs[place]
        return self.features_ND[a], self.features_ND[b], self.y[place]


class SeriesBatchSampler(Sampler):
    """Round robin: one pair from each series in turn until all are used, cut into batches.

    Series and the pairs inside them are shuffled every epoch.
    """

    def __init__(self, series: list[int], batch_size: int):
        self.batch_size = batch_size
        self.num_pairs = len(series)
        self.places_of = defaultdict(list)
        for place, owner in enumerate(series):
            self.places_of[owner].append(place)

    def __len__(self) -> int:
        return -(-self.num_pairs // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        queues = [random.sample(places, len(places)) for places in self.places_of.values()]
        random.shuffle(queues)
        order: list[int] = []
        while queues:
            order += [queue.pop() for queue in queues]
            queues = [queue for queue in queues if queue]
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]


def dataset_peer(data: Data, experiment: Experiment, trials: int) -> Epoch:
    sampler = SeriesBatchSampler(data.series_M[data.train].tolist(), experiment["batch_size"])
    train_loader = DataLoader(PairDataset(data, data.train), batch_sampler=sampler)
    val_loader = DataLoader(PairDataset(data, data.val), batch_size=CHUNK)

    def batches(loader: DataLoader) -> Iterator[Batch]:
        for a_BD, b_BD, y_B in loader:
            yield torch.cat([a_BD, b_BD]), y_B

    return one_trial(data, experiment, partial(batches, train_loader), partial(batches, val_loader))


def memory_peer(data: Data, experiment: Experiment, trials: int) -> Epoch:
    def train_batches() -> Iterator[Batch]:
        order = data.train[torch.randperm(len(data.train))]
        return map(data.batch, order.split(experiment["batch_size"]))

    return one_trial(
        data, experiment, train_batches, lambda: map(data.batch, data.val.split(CHUNK))
    )


def one_trial(data: Data, experiment: Experiment, train: Batches, validation: Batches) -> Epoch:
    """Plain training loop of one trial; `train` and `validation` give the batches of an epoch."""
    model = make_model(data, experiment)
    optimizer = make_optimizer(list(model.parameters()), experiment)
    if experiment["compile"]:
        model.compile()

    def epoch() -> tuple[float, float]:
        model.train()
        losses = []
        for inputs, y_B in train():
            optimizer.zero_grad(set_to_none=True)
            loss = batch_loss(model(inputs), y_B, experiment["margin"])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        model.eval()
        with torch.inference_mode():
            hits = torch.stack([count_hits(model(x), y_B) for x, y_B in validation()]).sum()
        return torch.stack(losses).mean().item(), data.accuracy(hits).item()

    return epoch


def vmap_peer(data: Data, experiment: Experiment, trials: int) -> Epoch:
    """P trials side by side; training loss and accuracy are means over them."""
    models = [make_model(data, experiment) for _ in range(trials)]
    params, _ = torch.func.stack_module_state(models)
    # AdamW treats every number alike, so the same optimiser serves stacked parameters.
    optimizer = make_optimizer(list(params.values()), experiment)
    model = models[0]

    def loss(params: dict[str, Tensor], inputs: Tensor, y_B: Tensor) -> Tensor:
        scores = torch.func.functional_call(model, params, inputs)
        return batch_loss(scores, y_B, experiment["margin"])

    def hits(params: dict[str, Tensor], inputs: Tensor, y_B: Tensor) -> Tensor:
        return count_hits(torch.func.functional_call(model, params, inputs), y_B)

    gradients = torch.vmap(torch.func.grad_and_value(loss), randomness="different")
    validate = torch.vmap(hits, in_dims=(0, None, None))

    def epoch() -> tuple[float, float]:
        model.train()
        losses = []
        order_PM = data.train[torch.rand(trials, len(data.train)).argsort(dim=1)]
        for rows_PB in order_PM.split(experiment["batch_size"], dim=1):
            with torch.no_grad():
                grads, loss_P = gradients(params, *data.batch(rows_PB))
            for name, param in params.items():
                param.grad = grads[name]
            optimizer.step()
            losses.append(loss_P)
        model.eval()
        with torch.inference_mode():
            chunks = [validate(params, *data.batch(rows_B)) for rows_B in data.val.split(CHUNK)]
            hits_P = torch.stack(chunks).sum(dim=0)
        return torch.stack(losses).mean().item(), data.accuracy(hits_P).mean().item()

    return epoch


PEERS = {"dataset": dataset_peer, "memory": memory_peer, "vmap": vmap_peer}


if __name__ == "__main__":
    main()
