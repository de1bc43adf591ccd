"""The cache of text embeddings gives every caption its own, whatever their number."""

import pytest
import torch

from diffusion2gan.training.text_cache import TextEmbeddings


class Encoder:
    """Encodes a caption as its number, and counts the captions of each call."""

    def __init__(self):
        self.calls = []

    def encode_text(self, captions):
        self.calls.append(len(captions))
        numbers = torch.tensor([float(caption) for caption in captions])
        return {"text_embeddings": numbers[:, None, None], "text_embeds": 2 * numbers[:, None]}


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 130, 200])
def test_every_caption_has_its_own_embedding(count):
    captions, encoder = [str(number) for number in range(count)], Encoder()
    text = TextEmbeddings(encoder, captions * 2)  # each is encoded once
    assert sum(encoder.calls) == count and max(encoder.calls) <= 64
    asked = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist() + [0, 0]
    conditions = text([str(number) for number in asked])
    assert conditions["text_embeddings"].flatten().tolist() == asked
    assert conditions["text_embeds"].flatten().tolist() == [2 * number for number in asked]
    assert sum(encoder.calls) == count


def test_more_captions_than_the_table_holds_are_encoded_as_they_come(monkeypatch):
    monkeypatch.setattr(TextEmbeddings, "most_in_table", 5)
    for count in (5, 6):
        encoder = Encoder()
        text = TextEmbeddings(encoder, [str(number) for number in range(count)])
        assert encoder.calls == ([5] if count == 5 else [])
        assert text(["3", "1"])["text_embeds"].flatten().tolist() == [6, 2]
        assert encoder.calls == [5 if count == 5 else 2]
