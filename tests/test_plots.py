"""Figures of result files: which exist, and one colour a source in all of them."""

import numpy as np
import pandas as pd
import pytest
from made_results import answers, by_style, curve, gaps, judged, searched, table
from matplotlib.colors import to_hex

from dd import figures, report
from dd.files import write_json
from dd.sources import LABELS, SOURCES


def test_figures_name_the_decoder(tmp_path):
    judged("judge-a").to_csv(tmp_path / "reconstruction.csv", index=False)
    made = [report.curve(tmp_path), report.curve(tmp_path, "judge-a"), report.ranking(tmp_path)]
    assert [p.name for p in made] == ["fid_guidance", "fid_guidance_judge-a", "judges_paired"]
    assert all(p.with_suffix(".png").exists() and p.with_suffix(".pdf").exists() for p in made)
    table().to_csv(tmp_path / "reconstruction.csv", index=False)
    assert report.ranking(tmp_path) is None and report.curve(tmp_path, "judge-a") is None


def test_nothing_is_drawn_of_what_a_study_lacks(tmp_path):
    plots = (report.curve, report.ranking, report.narrow, report.second_look, report.rate)
    plots += (report.answered, report.readers, report.classes, report.blends, report.edits)
    plots += (report.styles, report.lengths, report.fid_at_n, report.cut_words, report.by_style)
    assert all(plot(tmp_path) is None for plot in plots) and report.recipes(tmp_path, 1) is None
    answers().to_csv(tmp_path / "few_shot.csv", index=False)
    assert report.readers(tmp_path) is None  # one model: nothing to compare
    assert report.classes(tmp_path) is None  # one number of shots: no curve


@pytest.mark.parametrize("world", ["emoji", "mine"])
def test_other_worlds_have_images_not_drawings(tmp_path, monkeypatch, world):
    """Headings, axes, titles and captions of what is there in any world."""
    folder = tmp_path / "mine"
    folder.mkdir()
    again = table().query("split == 'test'").assign(seed=1)
    rows = pd.concat([table(), again, curve(90.0).assign(decoder="sketch")])
    rows.assign(world=world).to_csv(folder / "reconstruction.csv", index=False)
    gaps().to_csv(folder / "differences.csv", index=False)
    test = rows[rows["split"] == "test"]
    test.assign(words=2.0, bits=3.0).to_csv(folder / "rate_quality.csv", index=False)
    test.to_csv(folder / "fid_at_n.csv", index=False)
    write_json(folder / "parameters" / "05_reconstruction.json", {"world": world})
    drawn, texts, save = {}, [], figures.save
    monkeypatch.setattr(
        figures,
        "save",
        lambda figure, path: drawn.update({path.name: figure}) or save(figure, path),
    )
    report.fid_at_n(folder)
    report.build_report(folder, [])
    for name in ("fid_guidance", "rate_quality", "fid_at_n"):
        axis = drawn[name].axes[0]
        texts.append(f"{axis.get_title()} {axis.get_xlabel()} {axis.get_ylabel()}")
    texts += [
        (folder / "tables" / f"{name}.md").read_text() for name in ("reconstruction", "noise")
    ]
    pages = [(folder / "report" / f"{page}.html").read_text() for page in ("tables", "figures")]
    told, other = ("drawing", "image") if world == "emoji" else ("image", "drawing")
    for text in (*texts, *pages):
        assert f"{told}s" in text and f"{other}s" not in text
    for text in (f"on the same test {told}s", f"FID over guidance on test {told}s"):
        assert text in pages[0]
    assert f"FID against the number of {told}s." in pages[1]


def test_a_source_has_one_colour_in_every_figure(tmp_path, monkeypatch):
    rows = pd.concat([judged("judge-a"), searched()])
    rows.to_csv(tmp_path / "reconstruction.csv", index=False)
    by_style().to_csv(tmp_path / "kid_by_style.csv", index=False)
    rows[rows["split"] == "test"].to_csv(tmp_path / "second_eye.csv", index=False)
    both = pd.concat([answers(), answers().assign(model="n")])
    both.to_csv(tmp_path / "few_shot.csv", index=False)
    rated = rows[(rows["split"] == "test") & (rows["decoder"] == "sketch")]
    rated.assign(words=2.0, bits=3.0).to_csv(tmp_path / "rate_quality.csv", index=False)
    ends = {"recognised": rated["paired"], "lo": rated["paired_lo"], "hi": rated["paired_hi"]}
    rated.assign(**ends).to_csv(tmp_path / "style_recognised.csv", index=False)
    sizes = [rated.assign(n=n) for n in (1433, 2048, 0)]
    pd.concat(sizes).to_csv(tmp_path / "fid_at_n.csv", index=False)
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    plots = (report.curve, report.ranking, report.narrow, report.second_look, report.rate)
    plots = (*plots, report.styles, report.fid_at_n, report.answered, report.readers)
    plots = (*plots, report.by_style)
    for plot in plots:
        assert plot(tmp_path) is not None, plot.__name__
    bars = ("judges_paired", "kid_within", "style_recognised", "few_shot", "few_shot_readers")
    points = ("second_eye", "rate_quality", "kid_by_style")
    assert set(drawn) == {"fid_guidance", "fid_at_n", *points, *bars}
    titles = [axis.get_title() for axis in drawn["judges_paired"].axes]
    assert titles[-1] == "found by search\nn = 400" and len(titles) == 3
    legend = drawn["kid_by_style"].legends[0].get_texts()
    assert [text.get_text() for text in legend] == [LABELS["names"], LABELS["dediffusion"]]
    source = {label: key for key, label in LABELS.items()}
    for name, figure in drawn.items():
        axis = figure.axes[0]
        if name in bars:
            labels = [text.get_text() for text in axis.get_yticklabels()]
            colours = [patch.get_facecolor() for patch in axis.patches]
        else:
            handles, labels = axis.get_legend_handles_labels()
            colours = [getattr(h, "lines", [h])[0].get_color() for h in handles]
        assert LABELS["dediffusion"] in labels and len(labels) == len(colours)
        for label, colour in zip(labels, colours):
            assert to_hex(colour) == SOURCES[source[label]].colour, (name, label)


def test_classes_are_a_curve_over_shots_of_what_all_models_read(tmp_path, monkeypatch):
    one = answers()
    both = pd.concat([one, one[one["context"] != "captioner"].assign(model="n")])
    more = both[both["task"] == "classification"].assign(shots=3)
    pd.concat([both, more]).to_csv(tmp_path / "few_shot.csv", index=False)
    figure = []
    monkeypatch.setattr(figures, "save", lambda drawn, path: figure.append(drawn))
    report.classes(tmp_path)
    lines = {line.get_label(): line for line in figure[0].axes[1].lines}
    assert LABELS["captioner"] not in lines and lines["chance among the named"].get_ydata()[0] == 20
    ours = lines[LABELS["dediffusion"]]
    assert ours.get_xdata().tolist() == [1, 3] and ours.get_color() == SOURCES["dediffusion"].colour
    assert ours.get_ydata().tolist() == [80, 80]  # 0.6, and 0.2 more with the classes named


def test_all_numbers_of_words_and_all_cuts_are_drawn(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    told = pd.concat([table().query("source == 'names'"), table().query("source != 'names'")])
    told.assign(tokens=range(len(told))).to_csv(tmp_path / "lengths.csv", index=False)
    cuts = pd.DataFrame({"decoder": ["a", "a", "b", "b"], "kept": ["whole", "cut"] * 2})
    cuts.assign(paired=0.2, half=0.1).to_csv(tmp_path / "judges_words.csv", index=False)
    report.lengths(tmp_path), report.cut_words(tmp_path)
    for axis in drawn["lengths"].axes:
        across, [_, colour] = axis.lines[1], [SOURCES[s].colour for s in ("dediffusion", "names")]
        assert across.get_color() == colour == to_hex(axis.patches[0].get_facecolor())
        assert axis.get_title() == "n = 400, one training each"
    assert [len(axis.lines[0].get_xdata()) for axis in drawn["lengths"].axes] == [len(told) - 1] * 2
    assert [len(axis.patches) for axis in drawn["judges_words"].axes] == [2, 2]


def test_figures_say_n_and_have_the_intervals_of_their_file(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    asked = pd.concat([answers(), answers().assign(seed="0"), answers().assign(seed="1")])
    asked.to_csv(tmp_path / "few_shot.csv", index=False)
    rows = table()
    rows.to_csv(tmp_path / "reconstruction.csv", index=False)
    rated = rows[rows["split"] == "test"].assign(words=2.0, bits=3.0)
    rated.drop(columns="n").to_csv(tmp_path / "rate_quality.csv", index=False)
    sizes = [rows[rows["split"] == "test"].assign(n=n) for n in (716, 2048, 0)]
    pd.concat(sizes).to_csv(tmp_path / "fid_at_n.csv", index=False)
    trained = pd.DataFrame({"name": ["a", "b"] * 2, "probe_loss": [0.1, 0.2, 0.3, 0.4]})
    report.answered(tmp_path), report.rate(tmp_path), report.fid_at_n(tmp_path)
    trained.assign(seed=[0, 0, 1, 1]).to_csv(tmp_path / "relaxations.csv", index=False)
    report.recipes(tmp_path, 256)
    title = lambda name: drawn[name].axes[0].get_title()
    assert title("few_shot").endswith("n = 100") and title("rate_quality") == "n = 400"
    assert title("fid_at_n").startswith("n from 716 to 2,048")
    note = "n questions, over 2 draws of the examples; * the context holds the answer"
    assert drawn["few_shot"].get_supxlabel() == note
    axis = drawn["encoder_relaxations"].axes[0]
    assert axis.get_title() == "mean of 2 trainings, least to largest"
    assert "256 validation drawings" in axis.get_xlabel()
    [ends] = axis.collections
    assert np.allclose([s[:, 0] for s in ends.get_segments()], [[0.1, 0.3], [0.2, 0.4]])


def test_what_a_study_lacks_is_shown_as_shipped(tmp_path, monkeypatch, capsys):
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    monkeypatch.setattr(report.plots, "SHIPPED", shipped)
    asked = lambda: report.shown(own, "samplers", "steps", where={"sampler": "dpm"})
    assert asked() == report.picture(own, "lengths") == "in no study here"
    for folder, steps in ((shipped, 20), (own, 8)):
        (folder / "figures").mkdir(parents=True)
        rows = pd.DataFrame({"sampler": ["ddim", "dpm"], "steps": [50, steps]})
        rows.to_csv(folder / "samplers.csv", index=False)
        figures.image_grid([np.full((4, 4, 3), steps, np.uint8)], folder / "figures" / "lengths", 1)
        assert asked()["steps"].tolist() == [steps]
        assert report.picture(own, "lengths").data == figures.show(folder / "figures/lengths").data
        assert capsys.readouterr().out == f"Of the study {folder.name}:\n" * 2
