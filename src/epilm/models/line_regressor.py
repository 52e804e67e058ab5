"""A regression head on a histone language model (the further work that GeneGPT-2's section 7 asks for)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from epilm.models.histone_lm import LanguageModelSpec, build_language_model, read_lines


class LineRegressor(nn.Module):
    """Lines of a gene -> one number.

    Every line is read by the same language model; hidden states are averaged over segments of bins, so that the head knows
    where along the gene a word stands, and go side by side through one hidden layer.

    Args:
        orders: the lines that the head sees side by side, by their number. With two such orders (the lines as they are, and
            with two cell types in each other's place) the result is half the difference of the head's two numbers: it changes
            its sign, exactly, when the cell types change places.
    """

    def __init__(
        self,
        spec: LanguageModelSpec,
        *,
        orders: Sequence[Sequence[int]],
        num_bins: int,
        segments: int,
        head_hidden: int,
        head_dropout: float,
    ) -> None:
        super().__init__()
        assert len(orders) in (1, 2)
        assert len({len(order) for order in orders}) == 1
        self.spec, self.segments, self.orders = spec, segments, [list(order) for order in orders]
        # where segments begin, as even as whole bins allow; not a weight, and not saved
        self.register_buffer("edges", torch.arange(segments) * num_bins // segments, persistent=False)
        self.language_model = build_language_model(spec)
        width = len(orders[0]) * self.segments * spec.hidden
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, head_hidden),
            nn.GELU(),
            nn.Dropout(head_dropout),
            nn.Linear(head_hidden, 1),
        )
        # the language model's own output layer is not used, and an unused weight would wait for its gradient
        for name, parameter in self.language_model.named_parameters():
            if name.startswith("lm_head"):
                parameter.requires_grad_(False)

    edges: Tensor

    def forward(self, ids: Tensor, bins: Tensor, lengths: Tensor) -> Tensor:
        """Predictions [n] from token ids [n, lines, L], the bin of each token (-1 for padding) and lengths [n, lines]."""
        num, lines, length = ids.shape
        hidden = read_lines(
            self.language_model,
            ids.reshape(-1, length),
            lengths.reshape(-1),
            context=self.spec.context,
            pad_id=self.spec.pad_id,
        )
        place = torch.bucketize(bins.reshape(-1, length), self.edges, right=True) - 1  # -1 for padding
        belongs = (place[:, None] == torch.arange(self.segments, device=ids.device)[None, :, None]).to(hidden.dtype)
        belongs = belongs / belongs.sum(-1, keepdim=True).clamp(min=1)
        pooled = torch.bmm(belongs, hidden).reshape(num, lines, -1)  # [n, lines, segments * hidden]
        numbers = [self.head(pooled[:, order].flatten(1)).squeeze(-1) for order in self.orders]
        return numbers[0] if len(numbers) == 1 else (numbers[0] - numbers[1]) / 2
