"""Tasks of the language model: questions with known answers, episodes, scores, published files."""

import json

import numpy as np
import pandas as pd
import pytest

from dd.captions import pixel_words
from dd.data import BadData
from dd.llm import LanguageModel
from dd.study import Study, few_shot
from dd.study.few_shot import simple


def test_questions_are_true_of_their_drawings(whole_dataset):
    dataset = whole_dataset.subset("test", 400)
    asked = few_shot.questions(dataset, 600, seed="1")
    assert set(asked.kind) == set(few_shot.KINDS)
    assert (asked.groupby("kind").id.agg(["size", "nunique"]) == 100).all(axis=None)
    assert (asked.origin == asked.kind.map(few_shot.KINDS)).all()
    assert (asked.answers.map(len) == 10).all()
    yes = {True: "yes", False: "no"}
    for q in asked.itertuples():
        drawing, colours = dataset.frame.iloc[q.row], pixel_words(dataset.images[q.row])["colours"]
        group = few_shot.GROUPS[drawing["group"]]
        truth = {
            "what": simple(drawing["name"]),
            "group": group,
            "style": few_shot.STYLES[drawing["style"]],
            "colour": (colours or ["white"])[0],
            "is it": yes[q.question.endswith(f"the group {group}?")],
            "is there": yes[q.question[13:].removesuffix(" in it?") in colours],
        }[q.kind]
        assert q.answer == truth == q.answers[0] and few_shot.vqa_accuracy(truth, q.answers) == 1
    for kind in ("is it", "is there"):
        assert 0.3 < (asked[asked.kind == kind].answer == "yes").mean() < 0.7


def test_fewer_questions_are_the_first_of_more(whole_dataset):
    dataset = whole_dataset.subset("test", 400)
    more, fewer = (few_shot.questions(dataset, n, seed="1") for n in (240, 120))
    assert len(fewer.merge(more, on=["id", "kind", "question", "answer"])) == 120
    assert set(few_shot.questions(dataset, 240, seed="2").id) != set(more.id)


def test_questions_need_the_emoji_columns(whole_dataset):
    frame = pd.DataFrame({"id": ["1"], "name": ["a"]})
    with pytest.raises(BadData, match="read_vqa"):
        few_shot.questions(type(whole_dataset)("coco", frame, whole_dataset.images[:1]), 6, "0")


def test_episodes_never_show_the_query(whole_dataset):
    test, train, novel = (whole_dataset.subset(s) for s in ("test", "train", "novel"))
    for dataset, support in ((test, train), (novel, novel)):
        for shown, queries in few_shot.episodes(dataset, support, 5, 100, seed="0"):
            concept = {name: dataset.frame["concept"].iloc[i] for i, name in queries}
            assert len(queries) == len(concept) == len(set(concept.values())) == 5
            assert len(set(shown)) == len(shown) == 5 * few_shot.MOST_SHOTS
            for k in range(few_shot.MOST_SHOTS):  # one drawing of each class a round
                assert {name for _, name in shown[5 * k : 5 * k + 5]} == set(concept)
            assert all(support.frame["concept"].iloc[i] == concept[name] for i, name in shown)
            ids = {support.frame["id"].iloc[i] for i, _ in shown}
            assert not ids & {dataset.frame["id"].iloc[i] for i, _ in queries}
    assert len(few_shot.episodes(test, train, 2, 100, seed="0")) == 50
    with pytest.raises(BadData, match="are needed"):
        few = whole_dataset.subset("test", 3), train.subset("train", 3)
        few_shot.episodes(*few, 2, 10, seed="0")


def test_class_prompts_show_rounds_and_name_the_classes():
    classes = ("sun", "blue car")
    shown = [(2 * k + c, name) for k in range(5) for c, name in enumerate(classes)]
    episode = shown, [(1, "sun"), (0, "blue car")]
    texts = ["t0", "t1"], [f"s{i}" for i in range(10)]
    one, five = (few_shot.class_prompts(episode, k, True, *texts) for k in (1, 5))
    assert [p.query for p in one] == ["Context: t1\nLabel:", "Context: t0\nLabel:"]
    assert one[0].examples == ("Context: s0\nLabel: sun$\n", "Context: s1\nLabel: blue car$\n")
    assert five[0].examples[:2] == one[0].examples and len(five[0].examples) == 10
    assert one[0].instruction == "Say which of these the context describes: blue car or sun.\n"
    assert few_shot.class_prompts(episode, 1, False, *texts)[0].instruction == ""


def test_scores_on_known_answers():
    same = [("The  Red.", "red"), ("red apple", "red"), ("two", "2")]
    assert [few_shot.exact(*pair) for pair in same] == [1, 0, 1]
    by_ten = {("Red", 0): 1, ("blue", 0): 0, ("blue", 2): 0.6, ("blue", 1): 0.3}
    for (said, blue), score in by_ten.items():
        answers = ["red"] * (10 - blue) + ["blue"] * blue
        assert few_shot.vqa_accuracy(said, answers) == pytest.approx(score)
    references = [
        ["a red apple on a table", "red apple"],
        ["two dogs run in the snow", "dogs in snow"],
        ["the old man and the sea", "old man at sea"],
    ]
    own = few_shot.cider([r[0] for r in references], references)
    other = few_shot.cider([r[0] for r in references[1:] + references[:1]], references)
    assert own.shape == (3,) and (own > 100).all() and (other < 50).all()


def test_fields_of_a_prompt_stay_apart():
    shown = few_shot.example(few_shot.vqa_query("c $ \n d", "q"), "a$b")
    assert shown == "Context: c d\nQuestion: q\nAnswer: a b$\n"
    assert few_shot.example(few_shot.query("a\nb", "Caption"), "c\n") == (
        "Context: a b\nCaption: c$\n"
    )


def test_leaks_are_where_the_context_holds_the_answer():
    people = {"names", "names_keywords", "names_style", "names_all"}
    assert set(few_shot.LEAKS["what"]) == set(few_shot.LEAKS["all"]) == people | {"alt_text"}
    style = {"names_style", "alt_text"}
    assert set(few_shot.LEAKS["all but what"]) == {"names_all"} | style
    assert set(few_shot.LEAKS["is it"]) == {"names_all"}
    assert set(few_shot.LEAKS["colour"]) == {"alt_text"} and set(few_shot.LEAKS["style"]) == style


# -- published files ----------------------------------------------------------------------------


def vqa_files(folder, answers=(("yes", 7), ("no", 3)), **more):
    asked = [{"question_id": 9 + i, "image_id": 4 + i, "question": "Is it red?"} for i in range(3)]
    given = [{"answer": a, "answer_id": 1} for a, n in answers for _ in range(n)]
    ids = [{k: q[k] for k in ("question_id", "image_id")} for q in asked]
    noted = [{**i, "answers": given, **more} for i in ids]
    (folder / "q.json").write_text(json.dumps({"questions": asked}))
    (folder / "a.json").write_text(json.dumps({"annotations": noted}))
    return folder / "q.json", folder / "a.json"


def test_published_question_files_are_read(tmp_path):
    vqav2 = vqa_files(tmp_path, multiple_choice_answer="yes", answer_type="yes/no")
    table = few_shot.read_vqa(*vqav2)
    assert table.id.tolist() == ["4", "5", "6"] and set(table.kind) == {"yes/no"}
    assert table.answer[0] == "yes" and len(table.answers[0]) == 10
    okvqa = vqa_files(tmp_path, answers=(("no", 2), ("maybe", 8)))  # without multiple choice
    table = few_shot.read_vqa(*okvqa)
    assert table.answer[0] == "maybe" and set(table.kind) == {"all"}
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "other.json").write_text(
        json.dumps({"questions": [{"question_id": 1, "question": "?"}]})
    )
    for name, message in {
        "missing.json": "no such file",
        "bad.json": "a list of objects under .questions.",
        "other.json": "belong together",
    }.items():
        with pytest.raises(BadData, match=message):
            few_shot.read_vqa(tmp_path / name, tmp_path / "a.json")


def test_ask_scores_a_file_of_captions(tmp_path, llm_folder, capsys):
    from dd.__main__ import main

    q, a = map(str, vqa_files(tmp_path))
    texts, out = tmp_path / "captions.csv", tmp_path / "out.csv"
    pd.DataFrame({"id": ["4", "5", "6"], "text": ["red", "blue", ""]}).to_csv(texts, index=False)
    words = ["ask", str(texts), "--questions", q, "--annotations", a, "--model", str(llm_folder)]
    assert main([*words, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "VQA accuracy" in shown and len(pd.read_csv(out)) == 3
    assert shown.splitlines()[-1].split()[:2] == ["all", "3"]  # none twice without answer types
    assert main([*words, "--shots", "2"]) == 2 and "--examples" in capsys.readouterr().err
    assert main([*words, "--shots", "2", "--examples", q, a]) == 0
    pd.DataFrame({"id": ["4"], "text": ["red"]}).to_csv(texts, index=False)
    assert main(words) == 2 and "no text for 2 of the 3" in capsys.readouterr().err
    assert main([*words, "--on-bad", "skip"]) == 0


def test_ask_writes_captions_and_scores_them(tmp_path, llm_folder, capsys, monkeypatch):
    from dd.__main__ import main

    said = {"1": ["a red apple", "red fruit"], "2": ["two dogs run", "dogs in snow"]}
    said["3"] = ["the old sea"]
    file, texts, out = tmp_path / "c.json", tmp_path / "texts.csv", tmp_path / "out.csv"
    notes = [{"image_id": int(i), "caption": c} for i, captions in said.items() for c in captions]
    file.write_text(json.dumps({"annotations": notes}))
    assert few_shot.read_captions(file).captions.tolist() == list(said.values())
    contexts = {"1": "red", "2": "blue", "3": ""}
    pd.DataFrame(contexts.items(), columns=["id", "text"]).to_csv(texts, index=False)
    words = ["ask", str(texts), "--captions", str(file), "--model", str(llm_folder)]
    assert main([*words, "--shots", "2", "--examples", str(file)]) == 0
    assert "of 3 captions" in capsys.readouterr().out

    def answer(self, prompts, *args, **more):
        asked.extend(p.query for p in prompts)
        return ["two dogs run", "two dogs run", "x"]

    asked = []
    monkeypatch.setattr(LanguageModel, "answer", answer)
    assert main([*words, "--out", str(out)]) == 0
    assert asked == [few_shot.query(t, "Caption") for t in contexts.values()]
    scores = pd.read_csv(out, keep_default_na=False)["cider"]
    assert scores[1] > 100 > scores[0] == scores[2] == 0
    assert f"CIDEr {scores.mean():.1f} of 3" in capsys.readouterr().out
    assert main([*words, "--shots", "2"]) == 2 and "--examples CAPTIONS" in capsys.readouterr().err
    vqa = [*words, "--questions", "q"]
    for wrong in ([*vqa, "--annotations", "a"], words[:2], vqa):
        assert main(wrong) == 2 and "or --captions alone" in capsys.readouterr().err
    strange = tmp_path / "strange.csv"
    pd.DataFrame({"id": ["x1"], "text": ["red"]}).to_csv(strange, index=False)
    assert main([words[0], str(strange), *words[2:], "--on-bad", "skip"]) == 2
    assert "ids there look like '1', here like 'x1'" in capsys.readouterr().err
    file.write_text(json.dumps({"annotations": [{"image_id": 1}]}))
    assert main(words) == 2
    assert "annotations[0]: 'caption' needed; it has ['image_id']" in capsys.readouterr().err


# -- tables -------------------------------------------------------------------------------------


def test_summary_pools_seeds_and_kinds():
    cell = dict(task="vqa", context="names", model="m", shots=4, ways=0, metric="exact")
    cell |= dict(induction=False, pseudo=False)
    rows = [
        dict(cell, kind=kind, seed=seed, value=value)
        for kind, value in (("what", 1.0), ("colour", 0.0))
        for seed in (0, 1)
        for _ in range(5)
    ]
    table = few_shot.summary(pd.DataFrame(rows))
    columns = "task kind context model shots ways induction pseudo seed n score lo hi metric leak"
    assert list(table.columns) == columns.split()
    first, pooled = (table[table.seed == s].set_index("kind") for s in ("0", "all"))
    assert first.n["what"] == 5
    assert pooled.n.to_dict() == {"what": 10, "colour": 10, "all": 20, "all but what": 10}
    assert pooled.score.to_dict() == {"what": 1, "colour": 0, "all": 0.5, "all but what": 0}
    assert pooled.lo["all"] < 0.5 < pooled.hi["all"] and pooled.lo["what"] == 1
    assert list(pooled.index[pooled.leak]) == ["what", "all"]


def test_the_commonest_answer_needs_no_reader(whole_dataset):
    dataset = whole_dataset.subset("train", 600)
    said = few_shot.commonest(dataset)
    assert set(said) == set(few_shot.KINDS) and said["is it"] == said["is there"] == few_shot.COIN
    colours = [(pixel_words(i)["colours"] or ["white"])[0] for i in dataset.images]
    truth = {
        "group": dataset.frame["group"].map(few_shot.GROUPS),
        "style": dataset.frame["style"].map(few_shot.STYLES),
        "colour": pd.Series(colours),
    }
    for kind, answers in truth.items():  # of every drawing, not of a sample
        counts = answers.map(simple).value_counts()
        assert counts[said[kind]] == counts.max(), kind


def test_differences_are_of_the_same_questions():
    """Two sources that answer alike on hard and easy questions: their difference is far surer than
    their scores."""
    easy = np.random.default_rng(0).random((3, 200)) < 0.5
    cell = dict(task="vqa", model="m", shots=4, pseudo=False, kind="colour", metric="exact")

    def table(right_from_names):
        right = {"dediffusion": easy, "names": easy & right_from_names}
        rows = [
            dict(cell, context=c, seed=k, id=f"d{i}", value=float(right[c][k, i]))
            for c in right
            for k in range(3)
            for i in range(200)
        ]
        return few_shot.differences(pd.DataFrame(rows))

    most = np.arange(200) % 10 != 0
    found, gain = table(most), easy[:, ~most].mean() / 10
    assert list(found["kind"]) == ["colour", "all", "all but what"]
    assert set(found["than"]) == {"names"} and set(found["n"]) == {600}
    assert found["difference"].tolist() == pytest.approx([gain] * 3)
    assert (found["lo"] > 0).all() and (found["hi"] < 0.1).all()
    by_seed = [float(x) for x in found["by_seed"][0].split()]
    assert np.mean(by_seed) == pytest.approx(gain, abs=1e-3)
    one_draw = table(np.array([[False], [True], [True]]))  # one draw of examples makes all of it
    assert one_draw["lo"][0] == 0


def test_the_study_asks_once_and_goes_on_after_a_kill(llm_folder, monkeypatch, whole_dataset):
    shared = {}  # read and measured once for all studies
    said = few_shot.commonest(whole_dataset.subset("train"))
    monkeypatch.setattr(few_shot, "commonest", lambda dataset: said)

    def study(name):
        sizes = dict(questions=24, episodes=12, captions=8, example_seeds=2, n_test=300, n_train=0)
        shown = dict(contexts=["names", "empty"], shots=[0, 2], class_shots=[1])
        made = Study(
            dict(study=name, language_models=[str(llm_folder)], encoder="shipped", **sizes, **shown)
        )
        made.__dict__["dataset"], made.subsets = whole_dataset, shared
        return made

    def dying(self, prompts, *args, **more):
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return whole(self, prompts, *args, **more)

    whole, calls, one, two = LanguageModel.answer, 0, study("undisturbed"), study("killed")
    table = few_shot.few_shot(one)
    monkeypatch.setattr(LanguageModel, "answer", dying)
    with pytest.raises(KeyboardInterrupt):
        few_shot.few_shot(two)
    pd.testing.assert_frame_equal(table, few_shot.few_shot(two))
    asked = calls
    few_shot.few_shot(two)
    assert calls == asked  # a second call asks nothing
    file = "few_shot.csv"
    assert two.path(file).read_bytes() == one.path(file).read_bytes()

    scores = pd.read_csv(two.path(file))
    assert set(scores.task) == {"vqa", "classification", "captioning"}
    assert set(scores.context) == {"names", "empty", "commonest"}
    assert set(scores.seed.astype(str)) == {"0", "1", "all"}
    vqa = scores.query("kind == 'all' and seed == 'all' and metric == 'exact'")
    vqa = vqa[vqa.context == "names"]
    assert sorted(zip(vqa.shots, vqa.pseudo)) == [(0, True), (2, False)] and (vqa.n == 24).all()

    told = pd.read_parquet(two.path("few_shot_answers.parquet"))
    told = told[told.metric == "vqa"]  # every score can be made again from the file
    again = [few_shot.vqa_accuracy(s, a.split("|")) for s, a in zip(told.said, told.answers)]
    again = [0.5 if s == few_shot.COIN else score for s, score in zip(told.said, again)]
    assert again == told.value.tolist() and (told.origin == told.kind.map(few_shot.KINDS)).all()

    _, prompts = few_shot.question_prompts(two, "names", k=0, shots=0)
    assert len(prompts[0].examples) == few_shot.PSEUDO
    assert all(e.startswith("Context: \n") for e in prompts[0].examples)
    train = set(whole_dataset.subset("train").frame["id"])
    assert set(few_shot.questions_of(two, 0)[1]["id"]) <= train  # never from the test split

    beside = few_shot.side_by_side(two)  # of the first draw, with the most examples
    assert set(beside["line"].columns) == {"names", "empty"} and len(beside) == 12
    names = dict(zip(two.subset("test").frame["id"], two.texts("names")))
    index = beside.index.to_frame()
    starts = [f"{names[i]} -> " for i in index["id"]]
    assert all(line.startswith(s) for line, s in zip(beside["line"]["names"], starts))
    said = [line.removeprefix(s) for line, s in zip(beside["line"]["names"], starts)]
    right = [few_shot.exact(s, a) for s, a in zip(said, index["answer"])]
    assert beside["value"]["names"].tolist() == right


def test_a_dialogue_holds_the_text_and_every_turn_before(monkeypatch):
    class Parrot:
        def reply(self, messages, tokens):
            heard.append([m["content"] for m in messages])
            return f"reply {len(heard)}"

    heard = []
    monkeypatch.setattr(few_shot, "language_model", lambda name: Parrot())
    messages = few_shot.dialogue("parrot", "red round", ["what?", "why?"])
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 2]
    assert messages[0]["content"].endswith("red round")
    assert heard[0][1:] == ["what?"] and heard[1][1:] == ["what?", "reply 1", "why?"]
