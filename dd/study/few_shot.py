"""A language model reads the texts: questions, classifications and captions, from few examples.

    few_shot(study)                   # the paper's Tables 1-3 and 7: every context, every model
    language_bits(study, "smollm2")   # what a text of each source costs the model

A context is the text of any source. `read_vqa` and `read_captions` read published files, for
`python -m dd ask`.
"""

import importlib.util
import random
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..captions import COLOURS, STYLE_WORDS, pixel_words, words
from ..data import BadData, Dataset, stable_hash
from ..files import read_csv, write_csv
from ..llm import BUCKET, ROWS, LanguageModel, Prompt, plain
from ..reading import Bad, coco_captions, got, id_of, json_list, shown, text_of
from ..sources import keys
from .cache import folder_hash

VQA = "Answer the question about the picture that the context describes, in a word or two.\n"
CAPTION = "Say in a few words what the picture that the context describes shows.\n"
CLASSES = "Say which of these the context describes: {} or {}.\n"
PSEUDO = 16  # examples of a "0-shot" prompt, without contexts (Table 7's note; 32 there)
MOST_SHOTS = 5  # drawings of each class that an episode holds
COMMONEST = "commonest"  # context of answers that no model gave
COIN = "yes or no"  # the commonest answer to a question of yes or no: half right
CELL = ["task", "kind", "context", "model", "shots", "ways", "induction", "pseudo"]
COLUMNS = [*CELL, *"seed id question answer answers origin said metric value".split()]

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
STYLES = {style: said.split()[0] for style, said in STYLE_WORDS.items()}
STYLES |= {"fluent-3d": "glossy", "fluent-flat": "geometric"}  # not the first word
# kind of question: where its answer comes from
KINDS = {
    "what": "CLDR name",
    "group": "CLDR group",
    "colour": "pixels",
    "style": "drawing set",
    "is it": "CLDR group",
    "is there": "pixels",
}
# the second has no answer that people's words hold by construction
SUBSETS = {"all": tuple(KINDS), "all but what": tuple(KINDS)[1:]}
# contexts that hold the answer by construction, by kind of question and by task
HOLD = {"CLDR name": "name", "CLDR group": "group", "pixels": "pixels", "drawing set": "style"}
LEAKS = {kind: keys(HOLD[origin]) for kind, origin in KINDS.items()}
LEAKS |= {name: sum((LEAKS[k] for k in kinds), ()) for name, kinds in SUBSETS.items()}
LEAKS |= dict.fromkeys(("test", "novel", "caption"), keys("name"))


# -- prompts ------------------------------------------------------------------------------------


def query(context: str, field: str, short: bool = True) -> str:
    """What the model continues: a context (`short`: its beginning) and the name of the field to
    fill."""
    return f"Context: {plain(context, short)}\n{field}:"


def vqa_field(question: str) -> str:
    return f"Question: {plain(question)}\nAnswer"


def vqa_query(context: str, question: str) -> str:
    return query(context, vqa_field(question))


def example(query: str, answer: str) -> str:
    return f"{query} {plain(answer)}$\n"


# -- questions about drawings (Tables 1 and 7) --------------------------------------------------


def simple(text: str) -> str:
    """Lower-case words and numbers only."""
    return " ".join(words(text))


def ask(dataset: Dataset, row: int, kind: str, rng: random.Random) -> dict:
    """One question about one drawing, and ten answers as VQA's annotators would leave them: the
    answer itself, and up to three others that are partly right."""
    drawing, others, yes = dataset.frame.iloc[row], [], rng.random() < 0.5
    if kind == "what":
        question, answer = "What is it?", drawing["name"]
        others = [k for k in drawing["keywords"] if normal(k) != normal(answer)][:3]
    elif kind == "style":
        question, answer = "In which style is it drawn?", STYLES[drawing["style"]]
    elif kind == "group":
        question, answer = "Which group does it belong to?", GROUPS[drawing["group"]]
    elif kind == "is it":
        group = GROUPS[drawing["group"]]
        asked = group if yes else rng.choice([g for g in GROUPS.values() if g != group])
        question, answer = f"Does it belong to the group {asked}?", "yes" if yes else "no"
    else:
        colours = pixel_words(dataset.images[row])["colours"]
        if kind == "colour":
            question, (answer, *others) = "What is the main colour?", colours[:3] or ["white"]
        else:
            yes = yes and bool(colours)
            asked = rng.choice(colours if yes else [c for c in COLOURS if c not in colours])
            question, answer = f"Is there any {asked} in it?", "yes" if yes else "no"
    answer, *others = map(simple, (answer, *others))
    given = [answer] * (10 - len(others)) + others
    facts = dict(row=row, id=drawing["id"], kind=kind, origin=KINDS[kind], question=question)
    return facts | dict(field=vqa_field(question), answer=answer, answers=given)


def questions(dataset: Dataset, n: int, seed: str, kinds=tuple(KINDS)) -> pd.DataFrame:
    """About n questions, equally many of each kind, each about another drawing within the kind. A
    drawing's questions do not depend on n. Columns: those of `ask`."""
    if missing := {"group", "style", "keywords"} - set(dataset.frame.columns):
        raise BadData(
            f"dataset {dataset.name!r} has no {' and '.join(sorted(missing))}; questions are made "
            "of the emoji dataset, others are read by read_vqa"
        )
    rows, ids = [], list(dataset.frame["id"])
    for kind in kinds:
        seeds = [f"{seed}/{kind}/{id}" for id in ids]
        for i in sorted(range(len(ids)), key=lambda i: stable_hash(seeds[i]))[: n // len(kinds)]:
            rows.append(ask(dataset, i, kind, random.Random(seeds[i])))
    return pd.DataFrame(rows)


def commonest(dataset: Dataset, measured: int = 1000) -> dict[str, str]:
    """What can be said without reading, by kind of question: the answer that is right for most
    drawings (of `measured` ones for colours, which take time). A coin answers yes or no."""
    frame = dataset.frame
    answers = {
        "what": frame["name"],
        "group": frame["group"].map(GROUPS),
        "style": frame["style"].map(STYLES),
        "colour": questions(dataset, measured, "all", ("colour",))["answer"],
    }
    said = {kind: column.map(simple).mode()[0] for kind, column in answers.items()}
    return said | {"is it": COIN, "is there": COIN}


# -- published files ----------------------------------------------------------------------------


def read_vqa(
    questions_file: str | Path, annotations_file: str | Path, bad: Bad | None = None
) -> pd.DataFrame:
    """VQAv2 or OK-VQA -> id (of the image), kind (answer type), question, answer, answers."""
    bad, asked, rows, about = bad or Bad(), {}, {}, {}
    for where, q in json_list(questions_file, "questions", bad):
        with bad.at(where):
            key = id_of(got(q, "question_id"))
            question = text_of(got(q, "question"), "question")
            if asked.setdefault(key, question) != question:
                raise BadData(f"question {shown(key)} is there twice; give each its own id")
            about[key] = q.get("image_id")
    for where, a in json_list(annotations_file, "annotations", bad):
        with bad.at(where):
            key = id_of(got(a, "question_id"))
            if key not in asked:
                raise BadData(
                    f"question {shown(key)} is not in {questions_file}; "
                    "the two files must belong together"
                )
            if key in rows:
                raise BadData(f"question {shown(key)} is answered twice; keep one annotation")
            if not isinstance(given := got(a, "answers"), list) or not given:
                raise BadData("'answers' is no list of answers; use annotations that have them")
            answers = [text_of(got(x, "answer"), "answer") for x in given]
            main = a.get("multiple_choice_answer") or max(answers, key=answers.count)
            main = text_of(main, "multiple_choice_answer")
            kind = text_of(a.get("answer_type", "all"), "answer_type")
            image = id_of(got(a, "image_id"))
            if (other := about[key]) is not None and id_of(other) != image:
                both = f"question {shown(key)} is about image {shown(image)} here, {shown(other)}"
                raise BadData(f"{both} in {questions_file}; the two files must belong together")
            rows[key] = (image, kind, asked[key], main, answers)
    if silent := len(asked.keys() - rows.keys()):
        name = Path(annotations_file).name
        bad.notes.append(f"{name}: questions without an answer in it, not asked: {silent}")
    columns = ["id", "kind", "question", "answer", "answers"]
    return pd.DataFrame(list(rows.values()), columns=columns)


def read_captions(file: str | Path, bad: Bad | None = None) -> pd.DataFrame:
    """COCO captions -> id (of the image), captions (all that people wrote of it)."""
    captions = coco_captions(file, bad or Bad())
    return pd.DataFrame({"id": list(captions), "captions": list(captions.values())})


# -- open-ended classification (Table 3) --------------------------------------------------------


def episodes(
    dataset: Dataset, support: Dataset, ways: int, n: int, seed: str, shots: int = MOST_SHOTS
) -> list[tuple]:
    """n // ways episodes of `ways` concepts -> (support, queries) of each, drawings as (row, name):
    `shots` rounds of one drawing per class from `support`, and one query per class, another
    drawing, from `dataset`. Fewer shots take the first rounds of the same episodes."""
    if "concept" not in dataset.frame:
        raise BadData(f"dataset {dataset.name!r} has no concepts to classify; emoji has")
    ids, support_ids = dataset.frame["id"].tolist(), support.frame["id"].tolist()
    where = support.frame.groupby("concept").indices  # concept: its support drawings

    def others(concept: str, query: int) -> list[int]:
        return [j for j in where.get(concept, ()) if support_ids[j] != ids[query]]

    possible: dict[str, list[int]] = {}
    for i, concept in enumerate(dataset.frame["concept"]):
        if len(others(concept, i)) >= shots:
            possible.setdefault(concept, []).append(i)
    if len(possible) < ways:
        raise BadData(
            f"{len(possible)} concepts have a query and {shots} other drawings; {ways} are needed: "
            "judge more drawings"
        )
    rng, out = random.Random(f"{seed}/episodes/{ways}"), []
    for _ in range(n // ways):
        chosen = rng.sample(sorted(possible), ways)
        queries = [rng.choice(possible[c]) for c in chosen]
        names = [simple(dataset.frame["name"].iloc[q]) for q in queries]
        pools = [rng.sample(others(c, q), shots) for c, q in zip(chosen, queries)]
        rounds = [rng.sample(list(zip(drawings, names)), ways) for drawings in zip(*pools)]
        out.append((sum(rounds, []), list(zip(queries, names))))
    return out


def class_prompts(
    episode: tuple, shots: int, induction: bool, texts: list[str], support_texts: list[str]
) -> list[Prompt]:
    """One prompt a query; with induction a first sentence names the classes, alphabetically."""
    support, queries = episode
    *most, last = sorted(name for _, name in queries)
    instruction = CLASSES.format(", ".join(most), last) if induction else ""
    shown = support[: shots * len(queries)]
    examples = tuple(example(query(support_texts[i], "Label"), name) for i, name in shown)
    return [Prompt(instruction, examples, query(texts[i], "Label")) for i, _ in queries]


# -- scores -------------------------------------------------------------------------------------

DIGITS = "zero one two three four five six seven eight nine ten".split()
NUMBERS = {word: str(i) for i, word in enumerate(DIGITS)} | {"none": "0"}


def normal(answer: str) -> str:
    """An answer as VQA compares it: no case, punctuation and articles, numbers as digits."""
    return " ".join(NUMBERS.get(w, w) for w in words(answer) if w not in ("a", "an", "the"))


def exact(said: str, answer: str) -> float:
    return float(normal(said) == normal(answer))


def vqa_accuracy(said: str, answers: list[str]) -> float:
    """VQA's: min(1, annotators who agree / 3), mean over leaving each annotator out."""
    agree = [normal(said) == normal(a) for a in answers]
    if len(agree) < 2:
        return float(any(agree))
    return float(np.mean([min(1.0, (sum(agree) - a) / 3) for a in agree]))


def require_cider() -> None:
    """FileNotFoundError where its package is missing: asked before a model writes captions."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise FileNotFoundError(
            "CIDEr: its package is not installed; pip install --no-deps pycocoevalcap==1.2"
        )


def cider(said: list[str], references: list[list[str]]) -> np.ndarray:
    """CIDEr of each caption in percent, by pycocoevalcap, on `words` (its own tokenizer needs
    Java). Document frequencies are those of the references given."""
    require_cider()
    from pycocoevalcap.cider.cider import Cider

    given = {i: [simple(r) or "-" for r in some] for i, some in enumerate(references)}
    told = {i: [simple(s) or "-"] for i, s in enumerate(said)}
    return 100 * np.asarray(Cider().compute_score(given, told)[1])


def summary(answers: pd.DataFrame, repeats: int = 1000) -> pd.DataFrame:
    """Answers -> few_shot.csv: the mean of each cell with a bootstrap interval, for each seed of
    the examples and over all of them ("all"); questions also over SUBSETS of kinds. `leak`: the
    context holds the answer by construction."""
    asked = answers[answers["task"] == "vqa"]
    tables = [answers, *(asked[asked["kind"].isin(k)].assign(kind=n) for n, k in SUBSETS.items())]
    seeds = [t.assign(seed=s) for t in tables for s in (t["seed"].astype(str), "all")]
    rows = []
    for facts, part in pd.concat(seeds).groupby([*CELL, "metric", "seed"], sort=False):
        (*cell, metric, seed), v = facts, part["value"].to_numpy()
        means = v[np.random.default_rng(0).integers(0, len(v), (repeats, len(v)))].mean(1)
        leak = cell[CELL.index("context")] in LEAKS.get(cell[CELL.index("kind")], ())
        interval = np.percentile(means, [2.5, 97.5])
        rows.append((*cell, seed, len(v), v.mean(), *interval, metric, leak))
    return pd.DataFrame(rows, columns=[*CELL, *"seed n score lo hi metric leak".split()])


def differences(answers: pd.DataFrame, ours: str = "dediffusion", repeats=1000) -> pd.DataFrame:
    """Exact match of the questions asked from `ours` minus that from every other context ->
    few_shot_differences.csv. The interval resamples the draws of the examples, and inside each its
    drawings with all their questions; three draws are few: `by_seed` has each one's difference."""
    setting, rows = ["model", "shots", "pseudo"], []
    asked = answers[(answers["task"] == "vqa") & (answers["metric"] == "exact")]
    wide = asked.pivot(index=[*setting, "kind", "seed", "id"], columns="context", values="value")
    others = wide.columns.drop(ours) if ours in wide else ()
    subsets = {kind: (kind,) for kind in KINDS} | SUBSETS
    for facts, part in wide.groupby(setting):
        for (name, kinds), than in product(subsets.items(), others):
            some = part[part.index.isin(kinds, level="kind")]
            both = (some[ours] - some[than]).dropna()
            if both.empty:
                continue
            draws = [
                of_draw.groupby("id").agg(["sum", "size"]).to_numpy()  # (drawings, 2)
                for _, of_draw in both.groupby("seed")
            ]
            rng, means = np.random.default_rng(0), []
            for _ in range(repeats):
                picked = [draws[k] for k in rng.integers(0, len(draws), len(draws))]
                total, n = sum(d[rng.integers(0, len(d), len(d))].sum(0) for d in picked)
                means.append(total / n)
            interval, leak = np.percentile(means, [2.5, 97.5]), than in LEAKS.get(name, ())
            by_seed = " ".join(f"{total / n:+.3f}" for total, n in (d.sum(0) for d in draws))
            compared = (*facts, name, ours, than, len(both), both.mean())
            rows.append((*compared, *interval, by_seed, leak))
    columns = [*setting, *"kind context than n difference lo hi by_seed leak".split()]
    return pd.DataFrame(rows, columns=columns)


# -- the study's tasks --------------------------------------------------------------------------

language_model = cache(LanguageModel.load)


class Setting(NamedTuple):
    """Prompts of one task in one setting, rows of the answers to come, what is right by metric."""

    what: str
    rows: pd.DataFrame
    prompts: list[Prompt]
    right: dict[str, list]
    tokens: int = 12  # of an answer, at most
    B: int = ROWS


@cache
def questions_of(study, k: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions of draw k of the examples, and the examples, from the train split."""
    n, shown = study.questions // study.example_seeds, max(PSEUDO, *study.shots) * len(KINDS)
    asked = questions(study.subset("test"), n, f"{study.seed}/questions/{k}")
    return asked, questions(study.subset("train"), shown, f"{study.seed}/examples/{k}")


def prompts_of(
    here: list[str], there: list[str], instruction: str, asked, shown, shots: int
) -> list[Prompt]:
    """A prompt for each row of the table `asked` with examples of its own kind from `shown`:
    columns row (of the texts `here` and `there`), kind, field, answer. As in the paper, 0 shots
    show examples without contexts."""
    examples: dict[str, tuple[str, ...]] = dict.fromkeys(KINDS, ())
    for e in shown.groupby("kind").head(shots or PSEUDO).itertuples():
        examples[e.kind] += (example(query(there[e.row] if shots else "", e.field), e.answer),)
    return [
        Prompt(instruction, examples[q.kind], query(here[q.row], q.field))
        for q in asked.itertuples()
    ]


def question_prompts(study, context: str, k: int, shots: int) -> tuple[pd.DataFrame, list[Prompt]]:
    """The questions of draw k of the examples, and a prompt for each."""
    asked, shown = questions_of(study, k)
    texts = study.texts(context, "test"), study.texts(context, "train")
    return asked, prompts_of(*texts, VQA, asked, shown, shots)


def question_task(study, context: str) -> Iterator[Setting]:
    for k, shots in product(range(study.example_seeds), study.shots):
        asked, prompts = question_prompts(study, context, k, shots)
        rows = asked.assign(task="vqa", shots=shots, ways=0, induction=False, seed=k)
        rows["answers"] = rows["answers"].map("|".join)
        what, right = f"questions, {shots} shots, examples {k}", dict(exact=asked["answer"])
        yield Setting(what, rows, prompts, right | dict(vqa=asked["answers"]))


def class_task(study, context: str) -> Iterator[Setting]:
    supports = {"test": "train"} | ({"novel": "novel"} if study.n_novel else {})
    n, draws = study.episodes // study.example_seeds, range(study.example_seeds)
    for split, ways, k in product(supports if study.episodes else (), (2, 5), draws):
        dataset, support = study.subset(split), study.subset(supports[split])
        seed, shots = f"{study.seed}/{split}/{k}", max(study.class_shots)
        played = episodes(dataset, support, ways, n, seed, shots)
        rows, labels = [[q[j] for _, queries in played for q in queries] for j in (0, 1)]
        texts = study.texts(context, split), study.texts(context, supports[split])
        asked = pd.DataFrame(dict(id=dataset.frame["id"].iloc[rows].tolist(), answer=labels))
        asked = asked.assign(task="classification", kind=split, ways=ways, seed=k, question="")
        for shots, induction in product(study.class_shots, (True, False)):
            prompts = [p for e in played for p in class_prompts(e, shots, induction, *texts)]
            what = f"{ways} ways, {split}, {shots} shots, induction {induction}, examples {k}"
            cells = asked.assign(shots=shots, induction=induction)
            yield Setting(what, cells, prompts, {"exact": labels}, B=ways)


def caption_task(study, context: str) -> Iterator[Setting]:
    n, most = study.captions // study.example_seeds, max(PSEUDO, *study.shots)
    test, train = study.subset("test"), study.subset("train")

    def captioned(dataset: Dataset, n: int, k: int) -> pd.DataFrame:
        some = questions(dataset, n, f"{study.seed}/captions/{k}", ("what",))
        names = dataset.frame["name"].to_numpy()[some["row"]]
        return some.assign(field="Caption", answer=names)

    for k in range(study.example_seeds if study.captions else 0):
        asked, shown = captioned(test, n, k), captioned(train, most, k)
        keywords = test.frame["keywords"].iloc[asked["row"]]
        right = [[name, *more] for name, more in zip(asked["answer"], keywords)]
        rows = asked[["id", "answer"]].assign(task="captioning", kind="caption", question="")
        rows = rows.assign(ways=0, induction=False, seed=k)
        for shots in study.shots:
            texts = study.texts(context, "test"), study.texts(context, "train")
            prompts = prompts_of(*texts, CAPTION, asked, shown, shots)
            what, cells = f"captions, {shots} shots, examples {k}", rows.assign(shots=shots)
            yield Setting(what, cells, prompts, {"cider": right}, tokens=20)


TASKS = question_task, class_task, caption_task


def kept(study, stage: str, model: str, make, **inputs):
    """What a model gives, from an earlier call if there was one with the same inputs."""
    weights = folder_hash(Path(model)) if Path(model).is_dir() else ""
    return study.kept(stage, make, model=model, weights=weights, **inputs)


def answers(study, model: str, context: str, setting: Setting) -> list[str]:
    """What a model says in a setting; kept, so that nothing is asked twice."""
    prompts, tokens, B, what = setting.prompts, setting.tokens, setting.B, setting.what
    make = lambda: language_model(model).answer(prompts, tokens, B, f"{model}, {context}: {what}")
    facts = dict(tokens=tokens, rows=B, bucket=BUCKET, prompts=list(map(str, prompts)))
    return kept(study, "answer", model, make, **facts)


def scored(setting: Setting, said: list[str], model: str, context: str) -> Iterator[pd.DataFrame]:
    """The answers of a setting, one table for each metric."""
    rows = setting.rows.assign(model=model, context=context, said=said)
    rows["pseudo"] = rows["shots"] == 0
    for metric, right in setting.right.items():
        one = {"exact": exact, "vqa": vqa_accuracy}.get(metric)
        value = [one(s, r) for s, r in zip(said, right)] if one else cider(said, right)
        yield rows.assign(metric=metric, value=value)


def unread(study) -> Iterator[pd.DataFrame]:
    """The questions' floor, in each model's rows: always the commonest answer of the kind."""
    said = commonest(study.subset("train"))
    for model, setting in product(study.language_models, question_task(study, study.contexts[0])):
        for table in scored(setting, setting.rows["kind"].map(said), model, COMMONEST):
            yield table.assign(value=table["value"].mask(table["said"] == COIN, 0.5))


def few_shot(study) -> pd.DataFrame:
    """Every task from every context by every model -> few_shot.csv, few_shot_differences.csv, and
    each answer in few_shot_answers.parquet."""
    first, tables = study.language_models[0], []
    for model in study.language_models:
        further = model != first and study.further_contexts
        for context, task in product(further or study.contexts, TASKS):
            for setting in task(study, context):
                said = answers(study, model, context, setting)
                tables += scored(setting, said, model, context)
    told = pd.concat([*tables, *unread(study)], ignore_index=True)[COLUMNS]
    told.to_parquet(study.path("few_shot_answers.parquet"), index=False)
    table = summary(told)
    write_csv(study.path("few_shot.csv"), table.round(5))
    write_csv(study.path("few_shot_differences.csv"), differences(told).round(5))
    return table


def language_bits(study, model: str, n: int = 256) -> pd.Series:
    """Mean bits that a model needs for one text of each source, on n test drawings; also the column
    bits_lm of rate_quality.csv."""
    path, costs = study.path("rate_quality.csv"), {}
    rated = read_csv(path) if path.exists() else None
    for source in study.contexts if rated is None else rated["source"]:
        texts = study.texts(source, "test")
        texts = texts[:: max(1, len(texts) // n)][:n]  # evenly spread: neighbours are alike
        make = lambda texts=texts: float(language_model(model).bits(texts).mean())
        costs[source] = kept(study, "bits", model, make, texts=texts)
    costs = pd.Series(costs, name="bits_lm")
    if rated is not None:
        write_csv(path, rated.assign(bits_lm=rated["source"].map(costs).round(3)))
    return costs


# -- answers to look at -------------------------------------------------------------------------


def side_by_side(study) -> pd.DataFrame:
    """What was answered to the first draw's questions with the most examples: a row a model and
    question, columns (value, context) for exact match and (line, context) for text and answer."""
    told = pd.read_parquet(study.path("few_shot_answers.parquet"))
    told = told[(told["task"] == "vqa") & (told["metric"] == "exact") & (told["seed"] == 0)]
    told = told[(told["shots"] == max(study.shots)) & (told["context"] != COMMONEST)]
    ids = study.subset("test").frame["id"]
    texts = {s: dict(zip(ids, study.texts(s))) for s in told["context"].unique()}
    lines = [f"{texts[t.context][t.id]} -> {t.said}" for t in told.itertuples()]
    index, values = ["model", "kind", "id", "question", "answer"], ["value", "line"]
    return told.assign(line=lines).pivot(index=index, columns="context", values=values)


def dialogue(model: str, text: str, turns: Iterable[str], tokens: int = 40) -> list[dict[str, str]]:
    """A talk about a picture that the model knows by its text only: the messages."""
    role = "You see one picture through this list of words about it, and talk about the picture: "
    messages = [{"role": "system", "content": role + text}]
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        said = language_model(model).reply(messages, tokens=tokens)
        messages.append({"role": "assistant", "content": said})
    return messages
