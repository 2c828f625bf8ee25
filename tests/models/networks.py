"""Networks that torchvision does not bring, written in plain torch for tests/models/export_models.py.

They have the shapes of what people run: encoders of the size of BERT base and MiniLM, one decoding step of a small
GPT-2 with its cache of keys and values, a denoising U-Net with attention, and a recurrent tagger. Attention is spelled
out (matmul, softmax, matmul), as exporters write it.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def split(self, x):
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def attend(self, q, k, v, bias=None):
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if bias is not None:
            scores = scores + bias
        mixed = torch.softmax(scores, dim=-1) @ v
        batch, _, length, _ = mixed.shape
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))

    def forward(self, x, bias=None):
        return self.attend(self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x)), bias)


class EncoderLayer(nn.Module):
    """Norm after the sum, as in BERT."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, bias):
        x = self.norm1(x + self.attention(x, bias))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """ids, mask, types (i64[1,T]) -> hidden states, and a pooled vector: tanh of the first token, or the mean."""

    def __init__(self, width, heads, layers, inner, vocabulary=30522, positions=512, mean_pool=False):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner) for _ in range(layers))
        self.pooler = None if mean_pool else nn.Linear(width, width)

    def forward(self, ids, mask, types):
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        x = self.norm(self.words(ids) + self.positions(positions) + self.types(types))
        kept = mask.to(x.dtype)
        bias = (1.0 - kept)[:, None, None, :] * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, bias)
        if self.pooler is not None:
            return x, torch.tanh(self.pooler(x[:, 0]))
        weights = kept.unsqueeze(-1)
        mean = (x * weights).sum(1) / torch.clamp(weights.sum(1), min=1e-9)
        return x, F.normalize(mean, p=2.0, dim=1)


class DecoderLayer(nn.Module):
    """Norm before each part, as in GPT-2; the new token's key and value are appended to the cache."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, past_key, past_value):
        h, a = self.norm1(x), self.attention
        key = torch.cat([past_key, a.split(a.key(h))], dim=2)
        value = torch.cat([past_value, a.split(a.value(h))], dim=2)
        x = x + a.attend(a.split(a.query(h)), key, value)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")), key, value


class Gpt2Step(nn.Module):
    """One token with the cache: ids i64[1,1], then past key and value of each layer, f32[1,heads,P,D]."""

    def __init__(self, width=512, heads=8, layers=6, vocabulary=16384, positions=1024):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids, *past):
        position = torch.arange(past[0].shape[2], past[0].shape[2] + 1).unsqueeze(0)
        x = self.words(ids) + self.positions(position)
        present = []
        for layer, key, value in zip(self.layers, past[0::2], past[1::2]):
            x, key, value = layer(x, key, value)
            present += [key, value]
        return (self.norm(x) @ self.words.weight.t() / math.sqrt(x.shape[-1]), *present)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, embedding):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, embedding):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(embedding))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class ImageAttention(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = SelfAttention(channels, heads)

    def forward(self, x):
        batch, channels, height, width = x.shape
        tokens = self.norm(x).reshape(batch, channels, height * width).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).reshape(batch, channels, height, width)


class UNet(nn.Module):
    """Noise of a 64 x 64 picture at a time step; attention at 16 x 16; one way up is a transposed convolution."""

    def __init__(self, base=64, embedding=256):
        super().__init__()
        widths = [base, 2 * base, 4 * base]
        self.base = base
        self.time1, self.time2 = nn.Linear(base, embedding), nn.Linear(embedding, embedding)
        self.stem = nn.Conv2d(3, base, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            ResidualBlock(i, o, embedding) for i, o in zip([base] + widths[:-1], widths))
        self.down_samples = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle1 = ResidualBlock(widths[-1], widths[-1], embedding)
        self.middle_attention = ImageAttention(widths[-1])
        self.middle2 = ResidualBlock(widths[-1], widths[-1], embedding)
        self.up_blocks = nn.ModuleList(
            ResidualBlock(w + c, w, embedding) for w, c in zip(reversed(widths), reversed(widths)))
        self.up_conv = nn.Conv2d(widths[2], widths[1], 3, padding=1)
        self.up_transposed = nn.ConvTranspose2d(widths[1], widths[0], 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, base)
        self.out = nn.Conv2d(base, 3, 3, padding=1)

    def forward(self, x, time):
        half = self.base // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / half))
        angles = time[:, None] * rates[None]
        embedding = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        embedding = self.time2(F.silu(self.time1(embedding)))
        x, kept = self.stem(x), []
        for level, block in enumerate(self.down_blocks):
            x = block(x, embedding)
            kept.append(x)
            if level < len(self.down_samples):
                x = self.down_samples[level](x)
        x = self.middle2(self.middle_attention(self.middle1(x, embedding)), embedding)
        for level, block in enumerate(self.up_blocks):
            x = block(torch.cat([x, kept.pop()], dim=1), embedding)
            if level == 0:
                x = self.up_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            elif level == 1:
                x = self.up_transposed(x)
        return self.out(F.silu(self.norm(x)))


class Recurrent(nn.Module):
    """Frames f32[1,T,80] -> scores of 40 classes: a bidirectional LSTM, then a GRU."""

    def __init__(self, features=80, hidden=128, classes=40):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x):
        x, _ = self.lstm(x)
        x, _ = self.gru(x)
        return torch.log_softmax(self.out(x), dim=-1)
