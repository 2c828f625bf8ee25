"""Exports small models whose control flow torch.jit.script keeps, with Debian's torch:

    /usr/bin/python3 tests/models/export_scripted.py FOLDER

Each becomes FOLDER/NAME.onnx: `while` and `if` that data decides, loops over a run-time length, lists that grow, recurrent
layers in both directions over padded batches. Weights are drawn from a seed. tests/models/scripted_agree.py runs them.
"""
import pathlib
import sys
from typing import List

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

OPSET = 17  # the last that torch 1.13 writes


class Cell(nn.Module):
    """A gated cell of products, as torch 1.13 cannot export its own cells."""

    def __init__(self, wide, hidden):
        super().__init__()
        self.gate, self.new = nn.Linear(wide + hidden, hidden), nn.Linear(wide + hidden, hidden)

    def forward(self, x: torch.Tensor, h: torch.Tensor):
        both = torch.cat((x, h), 1)
        z = torch.sigmoid(self.gate(both))
        return z * h + (1 - z) * torch.tanh(self.new(both))


class Root(nn.Module):
    """Newton's square root, until the largest step is small: a Loop without a trip count."""

    def forward(self, x: torch.Tensor):
        y = torch.ones_like(x)
        steps = torch.zeros(1)
        change = torch.ones(1)
        while bool(change > 1e-4):
            following = 0.5 * (y + x / y)
            change = (following - y).abs().max().reshape(1)
            y = following
            steps = steps + 1
        return y, steps


class Branch(nn.Module):
    """An If whose branches compute different things of different lengths."""

    def __init__(self):
        super().__init__()
        self.positive, self.negative = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor):
        if bool(x.sum() > 0):
            y = torch.relu(self.positive(x))
        elif bool(x.min() < -1):
            y = torch.tanh(self.negative(x)) * 2
        else:
            y = self.negative(x.flip(0))
        return y + 1


class Rows(nn.Module):
    """A loop over as many rows as the input has; the carried state is an outer value of an If in its body."""

    def __init__(self):
        super().__init__()
        self.cell = Cell(5, 7)

    def forward(self, x: torch.Tensor):
        h = torch.zeros(x.size(1), 7)
        for t in range(x.size(0)):
            following = self.cell(x[t], h)
            if bool(following.abs().max() > 0.6):
                h = following * 0.5
            else:
                h = following
        return h


class Growing(nn.Module):
    """A list grows by one result a step and is stacked behind the loop."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor):
        results: List[torch.Tensor] = []
        h = torch.zeros(x.size(1))
        for t in range(x.size(0)):
            h = torch.tanh(self.mix(h) + x[t])
            results.append(h)
        return torch.stack(results)


class Greedy(nn.Module):
    """Greedy decoding: argmax chooses the next token until the end token or the limit."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(12, 8), Cell(8, 8), nn.Linear(8, 12)

    def forward(self, h: torch.Tensor, limit: torch.Tensor):
        token = torch.zeros(1, dtype=torch.int64)
        tokens = torch.zeros(0, dtype=torch.int64)
        count = torch.zeros(1, dtype=torch.int64)
        while bool(count < limit) and bool(token != 11):
            h = self.cell(self.embed(token), h)
            token = self.out(h).argmax(1)
            tokens = torch.cat((tokens, token))
            count = count + 1
        return tokens, h


class Nested(nn.Module):
    """A loop in a loop, the inner one as long as the outer counter."""

    def forward(self, x: torch.Tensor, n: int):
        total = torch.zeros_like(x)
        for i in range(n):
            part = x
            for j in range(i):
                part = torch.sin(part) + j
            total = total + part
        return total


class Recurrent(nn.Module):
    """BiLSTM and GRU over a padded batch whose lengths are an input. torch 1.13 fixes the batch of a packed one."""

    def __init__(self, packed):
        super().__init__()
        self.packed = packed
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(10, 4, bidirectional=True, batch_first=True)

    def forward(self, x, lengths):
        if self.packed:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=True)
            y, (h, c) = self.lstm(packed)
            y, _ = pad_packed_sequence(y, batch_first=True)
        else:
            y, (h, c) = self.lstm(x)
        z, last = self.gru(y)
        return z, last, h, c


def scripted(make, arguments, names, outputs, axes):
    return {"make": lambda: torch.jit.script(make()), "arguments": arguments, "names": names, "outputs": outputs, "axes": axes}


def traced(make, arguments, names, outputs, axes):
    return {"make": make, "arguments": arguments, "names": names, "outputs": outputs, "axes": axes}


BATCHES = {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "y": {0: "batch", 1: "steps"}, "last": {1: "batch"}, "h": {1: "batch"}, "c": {1: "batch"}}
MODELS = {
    "root": scripted(Root, (torch.rand(5) + 1,), ["x"], ["y", "steps"], {"x": {0: "n"}, "y": {0: "n"}}),
    "branch": scripted(Branch, (torch.rand(3, 6),), ["x"], ["y"], {"x": {0: "n"}, "y": {0: "n"}}),
    "rows": scripted(Rows, (torch.rand(4, 2, 5),), ["x"], ["y"], {"x": {0: "time", 1: "batch"}, "y": {0: "batch"}}),
    "growing": scripted(Growing, (torch.rand(4, 4),), ["x"], ["y"], {"x": {0: "time"}, "y": {0: "steps"}}),
    "greedy": scripted(Greedy, (torch.rand(1, 8), torch.tensor([5])), ["h", "limit"], ["tokens", "last"], {"tokens": {0: "count"}}),
    "nested": scripted(Nested, (torch.rand(3), 4), ["x", "n"], ["y"], {"x": {0: "n"}, "y": {0: "n"}}),
    "recurrent": traced(lambda: Recurrent(False), (torch.rand(2, 5, 6), torch.tensor([5, 3])), ["x", "lengths"], ["y", "last", "h", "c"], BATCHES),
    "packed": traced(lambda: Recurrent(True), (torch.rand(2, 5, 6), torch.tensor([5, 3])), ["x", "lengths"], ["y", "last", "h", "c"], BATCHES),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, spec) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = spec["make"]().eval()
        path = folder / f"{name}.onnx"
        with torch.no_grad():
            torch.onnx.export(model, spec["arguments"], str(path) + ".tmp", opset_version=OPSET, input_names=spec["names"],
                              output_names=spec["outputs"], dynamic_axes=spec["axes"])
        pathlib.Path(str(path) + ".tmp").replace(path)


if __name__ == "__main__":
    main()
