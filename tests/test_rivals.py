"""Rivals that search: the chain is the greedy one, the hard prompt climbs, the similarity learns and resumes."""
import pytest
import torch
from torch.nn.functional import normalize

from conftest import Killed, assert_same, killed_after
from dd.data import alt_text_parts
from dd.rivals import Similarity, hard_prompts, hard_prompts_by_loss, interrogate, phrase_bank, without
from dd.train import train_similarity
from dd.texts import read_texts, write_texts
from dd.vocab import allowed_tokens


@pytest.fixture(scope="module")
def similarity(tiny_decoder):
    torch.manual_seed(0)
    return Similarity(V=len(tiny_decoder.tokenizer), D=24, hidden=32).eval().requires_grad_(False)


def likeness(similarity, tokenizer, patches, text):
    """The definition, one picture and one text."""
    bag = tokenizer(text, add_special_tokens=False).input_ids
    return float((similarity.image(patches[None].float()) * normalize(similarity.text([bag]), dim=-1)).sum()) if bag else -1.0


def test_interrogator_is_the_greedy_chain(similarity, tiny_decoder, small_world, small_patches):
    bank, tokenizer = phrase_bank(small_world, least=3)[:40], tiny_decoder.tokenizer
    for k, text in enumerate(interrogate(similarity, tokenizer, small_patches[:5], bank, most=5, B=3)):
        said, found, used = [], -1.0, set()
        while True:                                                                                  # by hand, phrase by phrase
            scored = [(likeness(similarity, tokenizer, small_patches[k], " ".join([*said, p])), p) for p in bank if p not in used and len(" ".join([*said, p]).split()) <= 5]
            if not scored or max(scored)[0] <= found + 1e-6:
                break
            found, best = max(scored)
            said.append(best)
            used.add(best)
        assert text == " ".join(said) and 1 <= len(text.split()) <= 5


def test_phrases_are_those_said_often(small_world):
    bank = phrase_bank(small_world, least=10)
    said = [{p for kind in ("name", "keywords", "colours", "regions", "shape") for p in part[kind]} | {" ".join(part["style"])} for part in alt_text_parts(small_world)]
    assert 5 < len(bank) < 60 and all(sum(p in s for s in said) >= 10 for p in bank) and len(bank) == len(set(bank))
    assert set(bank) < set(phrase_bank(small_world, least=2))


def test_hard_prompts_climb_with_words_that_may_be_written(similarity, tiny_decoder, small_patches):
    tokenizer = tiny_decoder.tokenizer
    go = lambda steps: hard_prompts(similarity, tokenizer, small_patches[:8], N=4, steps=steps, B=8)
    first, last = go(1), go(60)
    score = lambda texts: [likeness(similarity, tokenizer, p, t) for p, t in zip(small_patches, texts)]
    assert all(b >= a for a, b in zip(score(first), score(last))) and sum(b > a + 0.05 for a, b in zip(score(first), score(last))) >= 6
    allowed = allowed_tokens(tokenizer)
    assert all(len(t.split()) == 4 and allowed[tokenizer(t, add_special_tokens=False).input_ids].all() for t in last)
    assert go(60) == last


def test_hard_prompts_by_loss_say_something_to_the_decoder(small_world):
    """Through the shipped decoder, a short search already denoises better than the words it began with."""
    from dd.decoder import Decoder
    from dd.train import encode_all
    decoder = Decoder.load("sketch")
    z_0, ids = encode_all(decoder, small_world)[:12], list(small_world.frame["id"])[:12]
    go = lambda steps: hard_prompts_by_loss(decoder, z_0, N=6, steps=steps, B=12)
    first, last = go(0), go(25)
    allowed = allowed_tokens(decoder.tokenizer)
    assert all(len(t.split()) == 6 and allowed[decoder.tokenizer(t, add_special_tokens=False).input_ids].all() for t in first + last)
    assert decoder.probe_loss(z_0, last, ids).mean() < decoder.probe_loss(z_0, first, ids).mean() - 0.003
    assert go(2) == go(2)                                       # its own stream of noise


def test_similarity_learns_whose_text_it_is(small_world, small_patches, tiny_decoder, tmp_path):
    found = lambda seen, out: _own(train_similarity(small_world, tiny_decoder.tokenizer, out, seen=seen, B=32, patches=small_patches), tiny_decoder, small_world, small_patches)
    assert found(60 * 32, tmp_path / "long") > found(32, tmp_path / "short") + 0.2


def _own(net, decoder, world, patches):
    ids = [decoder.tokenizer(" ".join(sum(p.values(), [])), add_special_tokens=False).input_ids for p in alt_text_parts(world)]
    return float((net(patches.float(), ids).argmax(1) == torch.arange(len(ids))).float().mean())


def test_similarity_killed_and_resumed_is_the_same(small_world, small_patches, tiny_decoder, tmp_path, monkeypatch):
    go = lambda out: train_similarity(small_world, tiny_decoder.tokenizer, out, seen=6 * 16, B=16, checkpoint_every=2, patches=small_patches)
    whole = go(tmp_path / "whole").state_dict()
    with monkeypatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            go(tmp_path / "cut")
    torch.manual_seed(12345)
    assert_same(go(tmp_path / "cut").state_dict(), whole)


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    """BLIP in miniature, every part of the real class, with weights as they fall."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor, BlipTextConfig, BlipVisionConfig
    folder = tmp_path_factory.mktemp("captioners") / "blip"
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *"a red blue round cat sign of picture the".split()]
    core = Tokenizer(models.WordPiece({w: i for i, w in enumerate(listed)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = BertTokenizerFast(tokenizer_object=core, bos_token="[DEC]")
    torch.manual_seed(0)
    text = BlipTextConfig(vocab_size=len(listed), hidden_size=32, encoder_hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, bos_token_id=5,
                          eos_token_id=3, sep_token_id=3, pad_token_id=0, projection_dim=16)
    vision = BlipVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16)
    BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).save_pretrained(folder, safe_serialization=True)
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_a_captioner_of_transformers_captions_a_world(blip_folder, small_world, tmp_path):
    from dd.__main__ import main
    from dd.rivals import caption
    world = small_world.part("all", 5)
    texts = caption(world, str(blip_folder), tokens=4, B=2)
    assert len(texts) == 5 and all(isinstance(t, str) and "[" not in t for t in texts)
    assert caption(world, str(blip_folder), tokens=4, B=5) == texts                    # whatever the batch
    asked = caption(world, str(blip_folder), prompt="a picture of", tokens=4, B=2)
    assert not any(t.startswith("a picture of") for t in asked) and any(texts)
    assert main(["caption", str(blip_folder), "--out", str(tmp_path / "captions.csv")]) == 2
    write_texts(tmp_path / "captions.parquet", world, [t or "nothing" for t in texts])
    assert read_texts(tmp_path / "captions.parquet", small_world)[1] == [t or "nothing" for t in texts]
    with pytest.raises(FileNotFoundError, match="needs its revision"):
        caption(world, "someone/blip")
    assert main(["caption", "someone/blip", "--out", str(tmp_path / "none.parquet")]) == 2 and not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize("prompt, text, left", [("A photo of", "a photo of a cat", "a cat"), ("<CAP>", "<CAP> a cat", "a cat"), ("", " a  cat ", "a cat"),
                                                ("a photo of", "a photo", "a photo"), ("Describe:", "describe : a cat", "a cat"), ("a photo", "two cats", "two cats"), ("a photo", "a photograph", "a photograph")])
def test_the_prompt_is_no_part_of_the_caption(prompt, text, left):
    assert without(prompt, text) == left
