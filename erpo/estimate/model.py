# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the calculation needs to know of a model, from its Hugging Face configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erpo.estimate.settings import EstimateError
from erpo.estimate.shapes import SHAPES


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder-only model.

    Attributes:
        parameters: All parameters, tied ones once.
        embedding: Parameters of the input embedding (vocabulary x hidden).
        tied: Whether the output head is the input embedding.
        layers: Decoder layers.
        hidden: Width of the residual stream.
        intermediate: Width inside the MLP.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        vocab: Rows of the output head, padding included.
    """

    parameters: int
    embedding: int
    tied: bool
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @property
    def matmul_parameters(self) -> int:
        """Parameters that multiply every token: all but an untied input embedding, which is looked up."""
        return self.parameters if self.tied else self.parameters - self.embedding

    @property
    def vocabulary_parameters(self) -> int:
        """Parameters of input embedding and output head together."""
        return self.embedding if self.tied else 2 * self.embedding

    @property
    def layer_parameters(self) -> float:
        """Parameters of one decoder layer."""
        return (self.parameters - self.vocabulary_parameters) / self.layers

    def lora_parameters(self, rank: int) -> int:
        """Parameters of a LoRA adapter on all linear layers, which adds rank x (inputs + outputs) to each."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))

    @classmethod
    def of(cls, path: str) -> "ModelShape":
        """Read the shape of a model.

        Args:
            path: Folder with a ``config.json``, or the hub name of a model whose shape is known here.

        Raises:
            EstimateError: Neither of them, or no dense decoder-only model.
        """
        from transformers import AutoConfig

        if (Path(path) / "config.json").is_file():
            return cls.from_config(AutoConfig.from_pretrained(path, local_files_only=True))
        # The instruction-tuned models have the shapes of their bases.
        base = path.removesuffix("-Instruct")
        if base in SHAPES:
            return cls.from_config(AutoConfig.for_model(**SHAPES[base]))
        raise EstimateError(
            f"the shape of {path} is not known here; set actor_rollout_ref.model.path to a folder with config.json, "
            f"or to one of {', '.join(SHAPES)}"
        )

    @classmethod
    def from_config(cls, config: Any) -> "ModelShape":
        """Build the model of a configuration without memory (torch's meta device) and count.

        Args:
            config: A Hugging Face configuration.

        Raises:
            EstimateError: No dense decoder-only model.
        """
        import torch
        from transformers import AutoModelForCausalLM

        if getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0):
            raise EstimateError("the calculation knows dense models only, and this one is a mixture of experts")
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
            return cls(
                parameters=sum(parameter.numel() for parameter in model.parameters()),
                embedding=model.get_input_embeddings().weight.numel(),
                tied=bool(config.tie_word_embeddings),
                layers=config.num_hidden_layers,
                hidden=config.hidden_size,
                intermediate=config.intermediate_size,
                heads=config.num_attention_heads,
                kv_heads=config.num_key_value_heads,
                head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
                vocab=config.vocab_size,
            )
        except (AttributeError, ValueError) as error:
            raise EstimateError(
                f"the calculation knows dense decoder-only models, not {config.model_type} "
                f"({str(error).splitlines()[0]})"
            ) from error
