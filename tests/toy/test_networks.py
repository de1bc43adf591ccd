"""The networks of the toy scale that are made anew, not loaded."""

import pytest

from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import prompts

CAPTIONS = [prompt.caption for prompt in prompts("all")]


def test_the_same_captions_give_the_same_tokens():
    first = toy.tokenizer(CAPTIONS)
    for _ in range(3):
        again = toy.tokenizer(CAPTIONS)
        assert again.get_vocab() == first.get_vocab()
        assert again._tokenizer.to_str() == first._tokenizer.to_str()  # its merges too


def test_letters_of_other_alphabets_have_tokens_too():
    captions = ["Ein Bär auf grünem Grund", "un éléphant bleu"]
    first = toy.tokenizer(captions)
    assert first.get_vocab() == toy.tokenizer(captions).get_vocab()
    assert first.decode(first("Bär bleu").input_ids, skip_special_tokens=True) == "bär bleu"


@pytest.mark.parametrize("word", ["a", "fox", "background"])
def test_a_word_is_one_token_between_the_two_that_hold_the_text(word):
    tokens = toy.tokenizer(CAPTIONS)
    assert tokens.convert_ids_to_tokens(tokens(word).input_ids) == [toy.BOS, f"{word}</w>", toy.EOS]
    assert max(tokens.get_vocab().values()) == tokens.eos_token_id
