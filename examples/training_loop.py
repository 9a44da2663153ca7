"""Train a model of one's own on packed batches: python training_loop.py OUT"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

import reelmill

batches = reelmill.batches(sys.argv[1], context=256, rows=2)
torch.manual_seed(0)
embed = nn.Embedding(batches.vocab.size, 64)
layer = nn.TransformerEncoderLayer(64, 2, 128, dropout=0.0, batch_first=True)
head = nn.Linear(64, batches.vocab.size)
optimizer = torch.optim.AdamW(nn.ModuleList([embed, layer, head]).parameters(), lr=3e-3)

for step in range(20):  # batches[step] is the same whenever it is asked for: resuming needs the step alone
    batch = batches[step]
    tokens, targets, positions = (torch.from_numpy(a).long() for a in (batch.tokens, batch.targets, batch.positions))
    document = (positions == 0).cumsum(1)  # a token sees its own document, up to itself
    seen = (document[:, :, None] == document[:, None, :]).tril()
    hidden = layer(embed(tokens), src_mask=~seen.repeat_interleave(2, dim=0))
    losses = F.cross_entropy(head(hidden).transpose(1, 2), targets, reduction="none")
    weights = torch.from_numpy(batch.weights)
    loss = (losses * weights).sum() / weights.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step} loss {loss:.3f}")
