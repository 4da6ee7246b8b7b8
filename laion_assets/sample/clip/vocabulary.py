"""A token embedding that trains only the few rows that the captions of the sample use."""

import torch


class SparseVocabulary(torch.nn.Module):
    """A token embedding (vocabulary, width) in which only the rows of used tokens are trained.

    The other 49,000 rows keep their small random values, so unknown words have little effect, and the optimizer spends
    no time on them.
    """

    frozen: torch.Tensor
    row: torch.Tensor
    used: torch.Tensor

    def __init__(self, full: torch.nn.Embedding, used: torch.Tensor):
        super().__init__()
        self.register_buffer("frozen", full.weight.detach().clone())
        row = torch.full((full.num_embeddings,), -1)
        row[used] = torch.arange(len(used))
        self.register_buffer("row", row)
        self.register_buffer("used", used)
        self.trained = torch.nn.Embedding(len(used), full.embedding_dim)
        self.trained.weight.data.copy_(full.weight.detach()[used])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        row = self.row[tokens]
        trained: torch.Tensor = self.trained(row.clamp(min=0))
        return torch.where((row >= 0)[..., None], trained, self.frozen[tokens])

    def merged(self) -> torch.Tensor:
        """Return the whole table, (vocabulary, width) float32."""
        table = self.frozen.clone()
        table[self.used] = self.trained.weight.detach()
        return table
