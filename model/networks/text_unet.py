"""TextUNet: the UNet with GLIDE's caption transformer (arXiv:2112.10741 §2).

A caption is encoded once per job (`encode_text`); the denoising steps only read its features.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.networks.unet import UNet, UNetConfig
from model.text.encoder import TextEncoder


class TextUNet(TextEncoder, UNet):
    """A denoiser conditioned on captions; its state dict has OpenAI's keys and shapes."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        assert config.text is not None
        self.build_text(config.text, config.embedding_width)

    def encode_text(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Everything the network needs to know of captions, computed once per job.

        Args:
            tokens: (B, L) int64.
            mask: (B, L) bool, True for real tokens.

        Returns:
            `pooled` (B, E) and `keys_values` (B, L, S), the keys and values of all attention blocks
            side by side, S = Σ 2C.
        """
        pooled, sequence = self.encode_caption(tokens, mask)
        shares = [block.text_keys_values(sequence) for block in self.attention_blocks]
        return pooled, torch.cat(shares, dim=-1)

    def embed(self, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Timestep and caption: (B,) → (B, E)."""
        embedding = super().embed(timesteps, conditioning)
        assert conditioning.pooled is not None
        return embedding + conditioning.pooled.to(embedding.dtype)

    def text_shares(self, conditioning: Conditioning) -> Iterator[Tensor | None]:
        """What each attention block in turn reads of the caption: (B, L, 2C) each."""
        assert conditioning.keys_values is not None
        widths = [block.text_channels for block in self.attention_blocks]
        yield from torch.split(conditioning.keys_values, widths, dim=-1)
