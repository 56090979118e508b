"""The teacher: blocks of a language model that read one token per item, and a full softmax over the catalogue.

    x_i = W_in s_i,   P(i | history) = softmax_i( head(backbone([prompt, start, x_1, ..., x_N])) · W_out s_i + b_i )

s_i is the concatenation of an item's *sources*: text, collaborative and image vectors (given, frozen), the sum of
its semantic ID's code embeddings, and an embedding of its own (both learned). The choice of sources covers the families
of the field: text (TALLRec, Bao et al. 2023), collaborative vectors projected into the language model's space (E4SRec,
Li et al. 2023, section 3.3; LLaRA, CoLLM), semantic IDs (LC-Rec), images (VIP5). As in E4SRec, an item is one token and
the softmax is over all items. Items are read and scored through their sources, and so are items that are added after
training (`Teacher.extend`).

Rows are packed (`distill.data.batches`): a token attends to its own history and to the prompt, which all share.
Shapes in comments: B rows, T tokens, D width, P prompt tokens, N items, S width of all sources, H width of the head.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.backbone import Backbone
from pocketrec.distill.models.full_softmax import full_softmax_loss
from pocketrec.distill.models.item_model import ItemRanker
from pocketrec.distill.models.source_table import ItemSources, SourceTable
from pocketrec.runtime.errors import DataError, MissingExtraError

HEAD = 256  # width of the vectors that items are scored by
HEAD_STD = 0.01  # standard deviation of the head's initial weights; logits start at about 0.2
LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Teacher(nn.Module):
    """The model; called with a `Batch` it returns the summed loss, as the trainer wants it."""

    prompt: Tensor
    bias: Tensor

    def __init__(
        self,
        config: TeacherConfig,
        backbone: Backbone,
        sources: ItemSources,
        n_items: int,
        max_history: int,
    ) -> None:
        """Build on a backbone, which becomes part of the teacher.

        Item tokens start at the scale of the word embeddings that the blocks were trained with. The head has a norm of
        its own and small initial weights, since the scale of a pretrained model's final norm varies.

        :param config: with its preset applied (`distill.models.presets`).
        :raises ConfigError: if a source is chosen but not given.
        :raises DataError: if a source does not have one row per item.
        :raises MissingExtraError: if `tuning` is "lora" and peft is not installed.
        """
        super().__init__()
        self.config, self.n_items, self.max_history = config, n_items, max_history
        self.items = SourceTable(config, sources, n_items)
        width, head = backbone.prompt.shape[1], min(HEAD, backbone.prompt.shape[1])
        self.project = nn.Linear(self.items.width, width)
        self.project_out = nn.Linear(self.items.width, head, bias=False)
        self.start = nn.Parameter(torch.randn(width) * backbone.token_std)
        self.register_buffer("prompt", backbone.prompt.clone())
        self.backbone = _with_lora(backbone.body, config) if config.tuning == "lora" else backbone.body
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, head, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        if "id" in config.sources:
            self.bias = nn.Parameter(torch.zeros(n_items))
        else:
            self.register_buffer("bias", torch.zeros(n_items), persistent=False)
        self._initialise(backbone.token_std)

    @torch.no_grad()
    def _initialise(self, token_std: float) -> None:
        # Rows of the source table have a length of about sqrt(number of sources); tokens then get `token_std`.
        length = len(self.config.sources) ** 0.5
        nn.init.normal_(self.project.weight, std=token_std / length)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.project_out.weight, std=1 / (length * self.head.out_features**0.5))
        nn.init.normal_(self.head.weight, std=HEAD_STD)

    @torch.no_grad()
    def start_from(self, vectors: NDArray[np.float32]) -> None:
        """Initialise the items' own embeddings with collaborative vectors, float32 [N, source_dim], of length 1.

        From random embeddings many epochs go into learning co-occurrence (see `Sasrec.start_from`). Items without a
        vector (all zeros) keep their random embedding.
        """
        if self.items.ids is not None:
            given = torch.from_numpy(vectors).to(self.items.ids)
            self.items.ids.copy_(torch.where(given.any(1, keepdim=True), given, self.items.ids))

    def extend(self, sources: ItemSources, n_items: int) -> None:
        """Replace the catalogue by a longer one, for scoring: the known items first and unchanged, then the new ones.

        New items are read and scored through their sources. Where `id` is a source, their embedding and their bias are
        the means over the known items.

        :raises ConfigError, DataError: as the constructor; also if the catalogue is shorter than the known one.
        """
        if n_items < self.n_items:
            raise DataError(f"the catalogue has {n_items} items, fewer than the {self.n_items} that the teacher knows")
        self.items.extend(sources, n_items)
        with torch.no_grad():
            bias = torch.cat((self.bias, self.bias.mean().expand(n_items - self.n_items)))
        self.bias = nn.Parameter(bias) if "id" in self.config.sources else bias
        self.n_items = n_items

    def _run(self, batch: Batch, **options: Any) -> Any:
        """Run the blocks over the prompt and every row, P + T tokens."""
        x = self.project(self.items(batch.inputs))  # [B, T, D]
        x = self.dropout(torch.where(batch.is_start.unsqueeze(-1), self.start.to(x), x))
        prompt = self.prompt.to(x).expand(len(x), -1, -1)  # [B, P, D]
        x = torch.cat((prompt, x), 1)
        may_attend = _with_prompt(batch.mask, len(self.prompt))  # [B, 1, P + T, P + T]
        mask = torch.zeros(may_attend.shape, dtype=x.dtype, device=x.device)
        mask.masked_fill_(~may_attend, torch.finfo(x.dtype).min)
        first = torch.arange(len(self.prompt), device=x.device).expand(len(x), -1)
        position = torch.cat((first, batch.position + len(self.prompt)), 1)
        return self.backbone(
            inputs_embeds=x, attention_mask=mask, position_ids=position, use_cache=False, **options
        )  # fmt: skip

    def hidden(self, batch: Batch) -> Tensor:
        """Return the hidden states after the last block and its norm, [B, T, D]."""
        return self._run(batch).last_hidden_state[:, len(self.prompt) :]  # type: ignore[no-any-return]

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """Return the hidden states after every block, [B, T, D] each, the last one normalised."""
        states = self._run(batch.to(self.start.device), output_hidden_states=True).hidden_states
        return [state[:, len(self.prompt) :] for state in states[1:]]

    def score_vector(self, hidden: Tensor) -> Tensor:
        """Return the vectors whose products with the item matrix are the scores: [..., D] -> [..., H]."""
        return self.head(self.norm(self.dropout(hidden)))  # type: ignore[no-any-return]

    def item_matrix(self) -> Tensor:
        """Return the vector that each item is scored by, [N, H]."""
        return self.project_out(self.items())  # type: ignore[no-any-return]

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy over the batch's positions."""
        hidden = self.hidden(batch).flatten(0, 1)[batch.loss_at]  # [n, D]
        return full_softmax_loss(self.score_vector(hidden), self.item_matrix(), self.bias, batch.targets)

    def item_logits(self, batch: Batch) -> Tensor:
        """Return logits over all items at the batch's positions, [n, N]; the batch may be on any device."""
        batch = batch.to(self.start.device)
        return self.scores(self.hidden(batch).flatten(0, 1)[batch.loss_at])

    def scores(self, hidden: Tensor) -> Tensor:
        """Return logits over all items for hidden states, [n, D] -> [n, N]."""
        return torch.addmm(self.bias, self.score_vector(hidden), self.item_matrix().T)

    def layers(self) -> nn.ModuleList:
        """Return the decoder layers of transformers; with LoRA, a copy with its updates merged into the weights."""
        body: Any = self.backbone
        if self.config.tuning == "lora":
            body = copy.deepcopy(body).merge_and_unload()
        found: nn.ModuleList = body.layers
        return found

    @property
    def parameters_count(self) -> int:
        """Number of parameters, frozen ones included."""
        return sum(p.numel() for p in self.parameters())


class TeacherRanker(ItemRanker):
    """Ranks the whole catalogue by the teacher's logits (a `Ranker` of `distill.evaluation`)."""

    def __init__(self, model: Teacher) -> None:
        """Take a model; it is put in eval mode."""
        super().__init__(model.eval(), model.max_history)


def _with_prompt(mask: Tensor, prompt: int) -> Tensor:
    """Extend a mask by a prompt that every token attends to: bool [B, 1, T, T] -> [B, 1, P + T, P + T]."""
    if prompt == 0:
        return mask
    rows, _, tokens, _ = mask.shape
    out = mask.new_zeros(rows, 1, prompt + tokens, prompt + tokens)
    out[:, :, :, :prompt] = True
    out[:, :, :prompt, :prompt].tril_()
    out[:, :, prompt:, prompt:] = mask
    return out


def _with_lora(body: nn.Module, config: TeacherConfig) -> nn.Module:
    """Freeze the blocks and add low-rank updates to their matrices (Hu et al. 2021, section 4.1)."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError(
            "teacher.tuning = 'lora' needs peft; run `pip install peft`, or set teacher.tuning = 'full'"
        ) from error
    shape = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules=LORA_LAYERS)
    wrapped: nn.Module = get_peft_model(body, shape)
    return wrapped
