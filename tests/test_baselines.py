"""Baselines that search: the chain is the greedy one, hard prompts climb, the similarity learns."""

import pytest
import torch
from conftest import SMALL
from torch.nn.functional import normalize

from dd.baselines import (
    Similarity,
    hard_prompts,
    hard_prompts_by_loss,
    interrogate,
    phrase_bank,
    train_similarity,
    without,
)
from dd.captions import alt_text_phrases
from dd.texts import read_texts, write_texts
from dd.vocab import allowed_tokens


@pytest.fixture(scope="module")
def similarity(tiny_decoder):
    torch.manual_seed(0)
    return Similarity(V=len(tiny_decoder.tokenizer), D=24, hidden=32).eval().requires_grad_(False)


def likeness(similarity, tokenizer, patches, text):
    """The definition, one picture and one text."""
    bag = tokenizer(text, add_special_tokens=False).input_ids
    return (
        float(
            (
                similarity.image(patches[None].float()) * normalize(similarity.text([bag]), dim=-1)
            ).sum()
        )
        if bag
        else -1.0
    )


def test_interrogator_is_the_greedy_chain(similarity, tiny_decoder, small_dataset, small_patches):
    bank, tokenizer = phrase_bank(small_dataset, least=3)[:40], tiny_decoder.tokenizer
    for k, text in enumerate(
        interrogate(similarity, tokenizer, small_patches[:5], bank, most=5, B=3)
    ):
        said, found, used = [], -1.0, set()
        while True:  # by hand, phrase by phrase
            scored = [
                (likeness(similarity, tokenizer, small_patches[k], " ".join([*said, p])), p)
                for p in bank
                if p not in used and len(" ".join([*said, p]).split()) <= 5
            ]
            if not scored or max(scored)[0] <= found + 1e-6:
                break
            found, best = max(scored)
            said.append(best)
            used.add(best)
        assert text == " ".join(said) and 1 <= len(text.split()) <= 5


def test_phrases_are_those_said_often(small_dataset):
    bank = phrase_bank(small_dataset, least=10)
    said = [
        {p for kind in ("name", "keywords", "colours", "regions", "shape") for p in part[kind]}
        | {" ".join(part["style"])}
        for part in alt_text_phrases(small_dataset)
    ]
    assert (
        5 < len(bank) < 60
        and all(sum(p in s for s in said) >= 10 for p in bank)
        and len(bank) == len(set(bank))
    )
    assert set(bank) < set(phrase_bank(small_dataset, least=2))


def test_hard_prompts_climb_with_words_that_may_be_written(similarity, tiny_decoder, small_patches):
    tokenizer = tiny_decoder.tokenizer
    go = lambda steps: hard_prompts(similarity, tokenizer, small_patches[:8], N=4, steps=steps, B=8)
    first, last = go(1), go(60)
    score = lambda texts: [
        likeness(similarity, tokenizer, p, t) for p, t in zip(small_patches, texts)
    ]
    assert (
        all(b >= a for a, b in zip(score(first), score(last)))
        and sum(b > a + 0.05 for a, b in zip(score(first), score(last))) >= 6
    )
    allowed = allowed_tokens(tokenizer)
    assert all(
        len(t.split()) == 4 and allowed[tokenizer(t, add_special_tokens=False).input_ids].all()
        for t in last
    )
    assert go(60) == last


def test_hard_prompts_by_loss_say_something_to_the_decoder(small_dataset):
    """Through the shipped decoder, a short search already denoises better than the words it began
    with."""
    from dd.decoder import Decoder
    from dd.train import encode_all

    decoder = Decoder.load("sketch")
    z_0, ids = encode_all(decoder, small_dataset)[:12], list(small_dataset.frame["id"])[:12]
    go = lambda steps: hard_prompts_by_loss(decoder, z_0, N=6, steps=steps, B=12)
    first, last = go(0), go(25)
    allowed = allowed_tokens(decoder.tokenizer)
    assert all(
        len(t.split()) == 6
        and allowed[decoder.tokenizer(t, add_special_tokens=False).input_ids].all()
        for t in first + last
    )
    assert (
        decoder.probe_loss(z_0, last, ids).mean()
        < decoder.probe_loss(z_0, first, ids).mean() - 0.003
    )
    assert go(2) == go(2)  # its own stream of noise


def test_similarity_learns_whose_text_it_is(small_dataset, small_patches, tiny_decoder, tmp_path):
    found = lambda seen, out: _own(
        train_similarity(
            small_dataset, tiny_decoder.tokenizer, out, seen=seen, B=32, patches=small_patches
        ),
        tiny_decoder,
        small_dataset,
        small_patches,
    )
    assert found(60 * 32, tmp_path / "long") > found(32, tmp_path / "short") + 0.2


def _own(net, decoder, dataset, patches):
    ids = [
        decoder.tokenizer(" ".join(sum(p.values(), [])), add_special_tokens=False).input_ids
        for p in alt_text_phrases(dataset)
    ]
    return float((net(patches.float(), ids).argmax(1) == torch.arange(len(ids))).float().mean())


TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}"
)
SAID = "a red blue round cat sign of picture the describe this detailed sentence in one".split()
SAID += "user assistant : .".split()


def word_tokenizer(specials=("<pad>", "<unk>", "<s>", "</s>", "<image>"), **more):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate([*specials, *SAID])}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        **more,
    )


def blip():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    listed = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        *"a red blue round cat sign of picture the".split(),
    ]
    core = Tokenizer(models.WordPiece({w: i for i, w in enumerate(listed)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    text = BlipTextConfig(
        vocab_size=len(listed),
        encoder_hidden_size=32,
        bos_token_id=5,
        eos_token_id=3,
        sep_token_id=3,
        pad_token_id=0,
        projection_dim=16,
        **SMALL,
    )
    vision = BlipVisionConfig(image_size=32, patch_size=16, **SMALL)
    return (
        BlipForConditionalGeneration(
            BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
        ),
        BlipProcessor(
            BlipImageProcessorPil(size={"height": 32, "width": 32}),
            BertTokenizerFast(tokenizer_object=core, bos_token="[DEC]"),
        ),
    )


def blip2():
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessorPil,
        OPTConfig,
    )

    tokenizer = word_tokenizer(additional_special_tokens=["<image>"])
    text = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        word_embed_proj_dim=32,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    config = Blip2Config(
        vision_config=Blip2VisionConfig(image_size=32, patch_size=16, **SMALL).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=4,
        qformer_config=Blip2QFormerConfig(
            vocab_size=len(tokenizer), encoder_hidden_size=32, **SMALL
        ).to_dict(),
    )
    return Blip2ForConditionalGeneration(config), Blip2Processor(
        BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4
    )


def florence2():
    from transformers import (
        BartConfig,
        CLIPImageProcessorPil,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        Florence2VisionConfig,
    )

    tokenizer = word_tokenizer(extra_special_tokens={"image_token": "<image>"})
    vision = Florence2VisionConfig(
        embed_dim=(16, 32),
        num_heads=(2, 2),
        num_groups=(2, 2),
        depths=(1, 1),
        patch_size=(7, 3),
        patch_stride=(4, 2),
        patch_padding=(3, 1),
        patch_prenorm=(False, True),
        window_size=4,
        projection_dim=32,
        drop_path_rate=0.0,
    )
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=9,
        forced_eos_token_id=3,
    )  # a word first: with weights as they fall it says what it said
    images = CLIPImageProcessorPil(
        size={"height": 32, "width": 32}, do_center_crop=False, image_seq_length=17
    )
    return (
        Florence2ForConditionalGeneration(
            Florence2Config(
                vision_config=vision.to_dict(),
                text_config=text.to_dict(),
                image_token_id=4,
                is_encoder_decoder=True,
            )
        ),
        Florence2Processor(images, tokenizer, num_additional_image_tokens=1),
    )


def llava():
    """One that is talked to: its folder holds a chat template."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = word_tokenizer(extra_special_tokens={"image_token": "<image>"})
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        **SMALL,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=16, **SMALL),
        text_config=text,
        image_token_index=4,
        image_seq_length=4,
    )
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return (
        LlavaForConditionalGeneration(config),
        LlavaProcessor(
            images,
            tokenizer,
            patch_size=16,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=TEMPLATE,
        ),
    )


@pytest.mark.parametrize("make", [blip, blip2, florence2, llava])
def test_models_of_transformers_caption_a_world(make, small_dataset, tmp_path):
    """Miniatures of the real classes, with weights as they fall, saved and loaded as a Hub folder
    is."""
    from dd.baselines import caption

    dataset, folder = small_dataset.subset("all", 5), str(tmp_path / make.__name__)
    torch.manual_seed(1)
    net, processor = make()
    torch.nn.init.normal_(
        net.get_input_embeddings().weight, std=1.0
    )  # so that pictures and prompts matter
    net.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
    texts = caption(dataset, folder, tokens=4, B=2)
    assert len(texts) == 5 and all(isinstance(t, str) and not {"[", "<"} & set(t) for t in texts)
    assert caption(dataset, folder, tokens=4, B=5) == texts  # whatever the batch
    asked = caption(dataset, folder, prompt="a picture of", tokens=4, B=2)
    assert not any(
        t.startswith("a picture of") or "assistant" in t.split()[:1] for t in asked
    ) and any(texts + asked)


def test_captions_are_written_for_score(small_dataset, tmp_path):
    from dd.__main__ import main
    from dd.baselines import caption

    assert (
        main(["caption", "someone/blip@" + 40 * "a", "--out", str(tmp_path / "captions.csv")]) == 2
    )
    texts = [f"picture {i}" for i in range(5)]
    write_texts(tmp_path / "captions.parquet", small_dataset.subset("all", 5), texts)
    assert read_texts(tmp_path / "captions.parquet", small_dataset)[1] == texts
    with pytest.raises(FileNotFoundError, match="needs its revision"):
        caption(small_dataset, "someone/blip")
    assert (
        main(["caption", "someone/blip", "--out", str(tmp_path / "none.parquet")]) == 2
        and not (tmp_path / "none.parquet").exists()
    )


def test_a_clip_of_transformers_interrogates(clip_folder, small_dataset, tmp_path, monkeypatch):
    """The greedy chain by hand, every text read alone, against the batched one; a shortlist is a
    part of the bank."""
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    from dd import data
    from dd.__main__ import main
    from dd.baselines import interrogate_by_clip

    bank, dataset = (
        [p for p in phrase_bank(small_dataset, least=3) if len(p.split()) < 4][:12],
        small_dataset.subset("all", 4),
    )
    net, processor = (
        CLIPModel.from_pretrained(clip_folder).eval(),
        CLIPProcessor.from_pretrained(clip_folder),
    )

    @torch.no_grad()
    def likeness(image, text):
        out = net(
            **processor(
                text=[text],
                images=[Image.fromarray(image)],
                return_tensors="pt",
                truncation=True,
                max_length=20,
            )
        )
        return float((out.text_embeds * out.image_embeds).sum())

    texts = interrogate_by_clip(dataset, str(clip_folder), bank, most=5, B=3)
    for image, text in zip(dataset.images, texts):
        chain, left, found = "", list(bank), -2.0
        while tried := [
            (likeness(image, f"{chain}, {p}" if chain else p), p)
            for p in left
            if len(f"{chain} {p}".split()) <= 5
        ]:
            score, pick = max(tried)
            if score <= found + 1e-6:
                break
            chain, found = f"{chain}, {pick}" if chain else pick, score
            left.remove(pick)
        assert text == chain and 0 < len(text.split()) <= 5
    short = interrogate_by_clip(dataset, str(clip_folder), bank, shortlist=1, most=5)
    assert short == [max(bank, key=lambda p: likeness(image, p)) for image in dataset.images]
    (tmp_path / "bank.txt").write_text("\n".join([*bank, "", bank[0]]))
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: dataset)
    for words, code in (
        (["--bank", str(tmp_path / "bank.txt")], 0),
        (["--world", "photos"], 2),
        (["--bank", str(tmp_path / "none.txt")], 2),
    ):
        assert (
            main(
                [
                    "interrogate",
                    str(clip_folder),
                    "--most",
                    "5",
                    "--split",
                    "train",
                    "--out",
                    str(tmp_path / "said.parquet"),
                    *words,
                ]
            )
            == code
        )
    kept, said = read_texts(tmp_path / "said.parquet", dataset)
    assert said == interrogate_by_clip(
        dataset.subset("train"), str(clip_folder), bank, most=5
    ) and len(said) == len(dataset.subset("train"))


def test_only_a_clip_interrogates(small_dataset, tmp_path):
    from dd.baselines import interrogate_by_clip

    net, processor = blip2()
    net.save_pretrained(tmp_path / "blip2", safe_serialization=True)
    processor.save_pretrained(tmp_path / "blip2")
    with pytest.raises(ValueError, match="use a CLIP or SigLIP"):
        interrogate_by_clip(small_dataset.subset("all", 2), str(tmp_path / "blip2"), ["a cat"])


@pytest.mark.parametrize(
    "prompt, text, left",
    [
        ("A photo of", "a photo of a cat", "a cat"),
        ("<CAP>", "<CAP> a cat", "a cat"),
        ("", " a  cat ", "a cat"),
        ("a photo of", "a photo", "a photo"),
        ("Describe:", "describe : a cat", "a cat"),
        ("a photo", "two cats", "two cats"),
        ("a photo", "a photograph", "a photograph"),
    ],
)
def test_the_prompt_is_no_part_of_the_caption(prompt, text, left):
    assert without(prompt, text) == left
