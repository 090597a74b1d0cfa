"""A language model reads the texts: questions, classifications, captions."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pandas as pd

from .. import llm
from .cache import folder_hash, write_csv


class FewShot:
    def language_model(self, name: str) -> llm.LanguageModel:
        known = self.__dict__.setdefault("_models", {})
        if name not in known:
            known[name] = llm.LanguageModel.load(name)
        return known[name]

    def answers(
        self,
        name: str,
        prompts: list[llm.Prompt],
        tokens: int = 12,
        B: int = llm.ROWS,
        what: str = "",
    ) -> list[str]:
        """What a model says to each prompt; kept, so that neither the same prompts nor an interrupted study ask twice."""
        weights = folder_hash(Path(name)) if Path(name).is_dir() else ""
        facts = dict(model=name, weights=weights, tokens=tokens, rows=B, bucket=llm.BUCKET)
        make = lambda: self.language_model(name).answer(prompts, tokens, B, progress=what)
        return self.kept("answer", make, prompts=[str(p) for p in prompts], **facts)

    def few_shot(self) -> pd.DataFrame:
        """Questions, classifications and captions from every context by every model -> few_shot.csv and few_shot_differences.csv; each answer in few_shot_answers.parquet."""
        tasks = (self._questions, self._classifications, self._captions)
        parts = [
            part
            for name in self.language_models
            for context in self.contexts_of(name)
            for task in tasks
            for part in task(name, context)
        ]
        parts += [
            part for name in self.language_models for part in self._questions(name, llm.COMMONEST)
        ]
        return self.few_shot_scores(pd.concat(parts, ignore_index=True))

    def few_shot_scores(self, answers: pd.DataFrame) -> pd.DataFrame:
        """Every file that answers make."""
        answers.to_parquet(self.path("few_shot_answers.parquet"), index=False)
        table = llm.summary(answers)
        write_csv(self.path("few_shot.csv"), table.round(5))
        write_csv(self.path("few_shot_differences.csv"), llm.differences(answers).round(5))
        return table

    @cached_property
    def commonest(self) -> dict[str, str]:
        """What training drawings are most often, kind of question by kind."""
        return llm.commonest(self.subset("train"))

    def contexts_of(self, name: str) -> list[str]:
        """The sources of text that a model is shown."""
        return (
            self.contexts
            if name == self.language_models[0]
            else self.parameters.get("further_contexts") or self.contexts
        )

    def language_bits(self, name: str, n: int = 256) -> pd.Series:
        """Mean bits that a model needs for one text of each source, on n test drawings; also the column bits_lm of rate_quality.csv."""
        path = self.path("rate_quality.csv")
        rated = pd.read_csv(path) if path.exists() else None
        sources, costs = list(self.contexts) if rated is None else list(rated["source"]), {}
        for source in sources:
            texts = self.texts(source, "test")
            texts = texts[:: max(1, len(texts) // n)][
                :n
            ]  # evenly spread: neighbours are drawings of like things
            weights = folder_hash(Path(name)) if Path(name).is_dir() else ""
            make = lambda texts=texts: float(self.language_model(name).bits(texts).mean())
            costs[source] = self.kept("bits", make, model=name, weights=weights, texts=texts)
        costs = pd.Series(costs, name="bits_lm")
        if rated is not None:
            write_csv(path, rated.assign(bits_lm=rated["source"].map(costs).round(3)))
        return costs

    def questions_of(self, k: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        """The questions that seed k of the examples answers, and that seed's examples from the train split, by kind."""
        known = self.__dict__.setdefault("_asked", {})
        if k not in known:
            shown = llm.questions(
                self.subset("train"),
                max(llm.PSEUDO, *self.shots) * len(llm.KINDS),
                f"{self.seed}/examples/{k}",
            )
            known[k] = (
                llm.questions(
                    self.subset("test"),
                    self.questions // self.example_seeds,
                    f"{self.seed}/questions/{k}",
                ),
                dict(list(shown.groupby("kind"))),
            )
        return known[k]

    def question_prompts(
        self, context: str, k: int, shots: int, pseudo: bool
    ) -> tuple[pd.DataFrame, list[llm.Prompt]]:
        """Seed k's questions, and each one's prompt with examples of its own kind."""
        asked, shown = self.questions_of(k)
        here, there = self.texts(context, "test"), self.texts(context, "train")
        examples = {
            kind: tuple(
                llm.vqa_example("" if pseudo else there[e.row], e.question, e.answer)
                for e in some.head(llm.PSEUDO if pseudo else shots).itertuples()
            )
            for kind, some in shown.items()
        }
        return asked, [
            llm.Prompt(llm.VQA, examples[q.kind], llm.vqa_query(here[q.row], q.question))
            for q in asked.itertuples()
        ]

    def _questions(self, name: str, context: str):
        settings = [
            (s, s == 0) for s in self.shots
        ]  # as in the paper, "0-shot" shows questions and answers, but no context
        for k in range(self.example_seeds):
            for shots, pseudo in settings:
                if context == llm.COMMONEST:
                    asked = self.questions_of(k)[0]
                    said = [self.commonest[kind] for kind in asked["kind"]]
                else:
                    asked, prompts = self.question_prompts(context, k, shots, pseudo)
                    said = self.answers(
                        name,
                        prompts,
                        what=f"{name}: questions from {context}, {shots} shots{', pseudo' if pseudo else ''}, examples {k}",
                    )
                cell = dict(
                    task="vqa",
                    kind=asked["kind"],
                    context=context,
                    model=name,
                    shots=shots,
                    ways=0,
                    induction=False,
                    pseudo=pseudo,
                    seed=k,
                    id=asked["id"],
                    question=asked["question"],
                    answer=asked["answer"],
                    answers=asked["answers"].map("|".join),
                    origin=asked["origin"],
                    said=said,
                )
                for metric, right, answer in (
                    ("exact", llm.exact, "answer"),
                    ("vqa", llm.vqa_accuracy, "answers"),
                ):
                    yield pd.DataFrame(
                        {
                            **cell,
                            "metric": metric,
                            "value": [
                                0.5 if s == llm.COIN and context == llm.COMMONEST else right(s, a)
                                for s, a in zip(said, asked[answer])
                            ],
                        }
                    )

    def _classifications(self, name: str, context: str):
        splits = (
            {"test": "train", "novel": "novel"}
            if self.parameters.get("n_novel")
            else {"test": "train"}
        )
        for split, support in splits.items() if self.episodes else ():
            part, here, there = (
                self.subset(split),
                self.texts(context, split),
                self.texts(context, support),
            )
            for ways in (2, 5):
                for k in range(self.example_seeds):
                    played = llm.episodes(
                        part,
                        self.subset(support),
                        ways,
                        self.parameters["episodes"] // self.example_seeds,
                        f"{self.seed}/{split}/{k}",
                    )
                    queries = [q for e in played for q in e.queries]
                    for shots in self.class_shots:
                        for induction in (True, False):
                            prompts = [
                                p
                                for e in played
                                for p in llm.class_prompts(e, shots, induction, here, there)
                            ]
                            said = self.answers(
                                name,
                                prompts,
                                B=ways,
                                what=f"{name}: {ways} ways from {context} on {split}, {shots} shots, induction {induction}, examples {k}",
                            )
                            yield pd.DataFrame(
                                dict(
                                    task="classification",
                                    kind=split,
                                    context=context,
                                    model=name,
                                    shots=shots,
                                    ways=ways,
                                    induction=induction,
                                    pseudo=False,
                                    seed=k,
                                    id=[part.frame["id"].iloc[i] for i, _ in queries],
                                    question="",
                                    answer=[a for _, a in queries],
                                    said=said,
                                    metric="exact",
                                    value=[llm.exact(s, a) for s, (_, a) in zip(said, queries)],
                                )
                            )

    def _captions(self, name: str, context: str):
        test, train = self.subset("test"), self.subset("train")
        for k in range(self.example_seeds) if self.captions else ():
            rows, shown = (
                [
                    q.row
                    for q in llm.questions(
                        w, n, f"{self.seed}/captions/{k}", kinds=("what",)
                    ).itertuples()
                ]
                for w, n in (
                    (test, self.captions // self.example_seeds),
                    (train, max(llm.PSEUDO, *self.shots)),
                )
            )
            here, there = self.texts(context, "test"), self.texts(context, "train")
            for shots in self.shots:
                pseudo = shots == 0
                examples = tuple(
                    llm.caption_example("" if pseudo else there[i], train.frame["name"].iloc[i])
                    for i in shown[: llm.PSEUDO if pseudo else shots]
                )
                said = self.answers(
                    name,
                    [llm.Prompt(llm.CAPTION, examples, llm.caption_query(here[i])) for i in rows],
                    tokens=20,
                    what=f"{name}: captions from {context}, {shots} shots, examples {k}",
                )
                people = test.frame.iloc[rows]
                yield pd.DataFrame(
                    dict(
                        task="captioning",
                        kind="caption",
                        context=context,
                        model=name,
                        shots=shots,
                        ways=0,
                        induction=False,
                        pseudo=pseudo,
                        seed=k,
                        id=people["id"].tolist(),
                        question="",
                        answer=people["name"].tolist(),
                        said=said,
                        metric="cider",
                        value=llm.cider(
                            said, [[n, *ks] for n, ks in zip(people["name"], people["keywords"])]
                        ),
                    )
                )
