"""The sizes of an encoder: what turns a count of heads and MLPs into a share of weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How many layers and heads there are, and how wide.

    Attributes:
        layers, heads: how many layers, and heads in each.
        hidden, intermediate: widths of the layer and of its MLP.
        total: all parameters of the encoder with its task layer, embeddings included.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    total: int

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    @property
    def head_parameters(self) -> int:
        """Parameters of one head: its rows of W_Q, W_K, W_V with biases, its columns of W_O."""
        return self.head_size * (4 * self.hidden + 3)

    @property
    def mlp_parameters(self) -> int:
        """Parameters of one MLP: two dense layers with their biases."""
        return 2 * self.hidden * self.intermediate + self.hidden + self.intermediate

    @property
    def encoder_parameters(self) -> int:
        """Parameters of all dense layers in the encoder, the biases of W_O included."""
        layer = self.heads * self.head_parameters + self.hidden + self.mlp_parameters
        return self.layers * layer
