"""Prompts are distinct, seeded, and read from what people have."""

import io
from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzed import damaged, fuzzed, read
from hypothesis import given
from hypothesis import strategies as st
from official import laion as official

from diffusion2gan.errors import UserError
from diffusion2gan.pairs.prompts import choose_prompts, read_prompts
from diffusion2gan.settings import PromptFilter
from diffusion2gan.toy import openmoji
from scripts.pairs import prepare_prompts
from scripts.pairs.prepare_prompts import Arguments, main


def test_openmoji_prompts_are_those_of_the_pairs_in_a_seeded_order():
    chosen = choose_prompts("openmoji", 5000, seed=1)
    assert set(chosen["caption"]) == {prompt.caption for prompt in openmoji.prompts("pairs")}
    assert chosen["caption"].is_unique
    assert chosen["prompt_id"].tolist() == list(range(len(chosen)))
    assert choose_prompts("openmoji", 5000, seed=1).equals(chosen)
    assert not choose_prompts("openmoji", 5000, seed=2).equals(chosen)


def test_a_file_gives_exactly_as_many_as_requested(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("a cat\n\n a dog \na cat\n", encoding="utf-8")
    assert sorted(choose_prompts(str(text), 2, 0)["caption"]) == ["a cat", "a dog"]
    assert len(choose_prompts(str(text), 1, 0)) == 1


def test_pairs_share_the_captions_of_a_source_that_has_fewer_and_the_file_counts_both(laion, tmp_path, capsys):
    def prepared(count):
        out = tmp_path / f"{count}.parquet"
        main(Arguments(source=str(laion), count=count, seed=3, min_score=6.25, out=out))
        return read_prompts(out).to_pylist(), pd.read_parquet(out).attrs, capsys.readouterr().err

    captions, counted, said = prepared(120)
    assert sorted(captions) == sorted(f"picture {i}" for i in range(63, 100))
    assert counted == {"pairs": 120, "distinct": 37}
    assert said == f"warning: {laion} holds 37 distinct captions that can be used for 120 pairs: captions are reused\n"
    assert prepared(37) == (captions, {}, "")


@pytest.fixture
def laion(tmp_path):
    """A folder of two files as LAION-aesthetics has them."""
    rows = [(f"picture {i}", i / 10) for i in [*range(60), *range(50, 100)]]
    return official.write(tmp_path / "laion", rows + [(None, 9.0), ("  ", 9.0), ("x" * 2000, 9.0)])


def test_laion_is_filtered_by_score_and_length_without_duplicates(laion):
    chosen = choose_prompts(str(laion), 37, 0, PromptFilter(min_score=6.25))["caption"]
    assert sorted(chosen) == sorted(f"picture {i}" for i in range(63, 100))
    assert len(choose_prompts(str(laion), 100, 0)) == 100
    short = choose_prompts(str(laion), 10, 0, PromptFilter(longest=9))["caption"]
    assert sorted(short) == sorted(f"picture {i}" for i in range(10))
    some, others = (choose_prompts(str(laion), 20, seed)["caption"].tolist() for seed in (1, 2))
    assert some == choose_prompts(str(laion), 20, 1)["caption"].tolist() and set(some) != set(others)


def test_columns_may_be_named(tmp_path):
    path = tmp_path / "own.parquet"
    pd.DataFrame({"words": ["a", "b"], "liked": [1, 5]}).to_parquet(path)
    wanted = PromptFilter(caption_column="words", score_column="liked", min_score=2)
    assert choose_prompts(str(path), 1, 0, wanted)["caption"].tolist() == ["b"]
    with pytest.raises(UserError, match="has no column 'word', did you mean 'words'"):
        choose_prompts(str(path), 1, 0, PromptFilter(caption_column="word"))
    with pytest.raises(UserError, match="none is named AESTHETIC_SCORE or .*, set `score_column`"):
        choose_prompts(str(path), 1, 0, PromptFilter(caption_column="words", min_score=2))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n\n", "holds no caption"),
        ("latin.txt", b"caf\xe9", "is not UTF-8 text"),
        ("utf16.txt", "a cat".encode("utf-16-le"), "is not UTF-8 text .it holds the character 0"),
        ("missing.txt", None, "there are no prompts at"),
        ("broken.parquet", b"PAR1", "cannot be read as parquet"),
        (
            "other.parquet",
            {"words": ["a"], "n": [1]},
            "has the columns words, n: none is named caption or TEXT or text, set",
        ),
    ],
)
def test_a_bad_source_is_a_one_line_error(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        pd.DataFrame(content).to_parquet(path)
    with pytest.raises(UserError, match=message) as raised:
        choose_prompts(str(path), 1, 0)
    assert "\n" not in str(raised.value)


def test_lines_of_a_text_file_are_captions_whatever_else_they_hold(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa fox\r\nan\u2028owl\na\x0ccat\na\x85bee\n".encode())
    expected = {"a\x0ccat", "a fox", "a\x85bee", "an\u2028owl"}
    assert set(choose_prompts(str(path), 4, 0)["caption"]) == expected


def test_the_parts_of_a_source_may_have_other_types_and_orders_of_columns(tmp_path):
    parts = [
        pa.table({"TEXT": pa.array(["a fox", None]), "score": pa.array([7, 7], pa.int8())}),
        pa.table({"score": pa.array([5.5, 9.0]), "TEXT": pa.array(["an owl", "a cat"], pa.large_string())}),
        pa.table({"TEXT": pa.array(["a bee", "a bee"]).dictionary_encode(), "score": pa.array([None, 6.5])}),
        pa.table({"TEXT": pa.nulls(2), "score": pa.nulls(2)}),
        pa.table({"TEXT": [b"a dog"], "score": [8]}),
        pa.table({"TEXT": pa.array(["an ant"], pa.string_view()), "score": [8]}),
    ]
    for number, part in enumerate(parts):
        pq.write_table(part, tmp_path / f"part-{number}.parquet")
    assert sorted(choose_prompts(str(tmp_path), 5, 0, PromptFilter(min_score=6))["caption"]) == [
        "a bee", "a cat", "a dog", "a fox", "an ant",
    ]  # fmt: skip


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"]).buffers())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"TEXT": [["a dog", "one dog"]], "score": [7]}, "column 'TEXT' holds list<.*>, not text"),
        ({"TEXT": [17], "score": [7]}, "column 'TEXT' holds int64, not text"),
        ({"TEXT": ["a dog"], "score": ["high"]}, "column 'score' holds string, not numbers .*high"),
        ({"TEXT": ["a dog"], "score": [{"value": 7}]}, "column 'score' holds struct.*, not numbers"),
        ({"TEXT": ["a dog"], "score": [date(2026, 1, 1)]}, "column 'score' holds date32.*, not numbers .*score_column"),
        ({"TEXT": NOT_UTF8, "score": [7]}, "cannot be read as parquet .*UTF8"),
        ({"words": ["a dog"], "score": [7]}, "has the columns words, score"),
        (pa.table([["a dog"], ["a cat"], [7]], names=["TEXT", "TEXT", "score"]), "cannot be read as parquet .*2 times"),
        (b"PAR1", "cannot be read as parquet"),
        (b"version https://git-lfs.github.com/spec/v1\n", "cannot be read as parquet"),
    ],
)
def test_a_bad_part_is_named_whatever_the_parts_before_it_are(tmp_path, second, message):
    first, bad = tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"
    pq.write_table(pa.table({"TEXT": ["a fox"], "score": [7]}), first)
    if isinstance(second, bytes):
        bad.write_bytes(second)
    else:
        pq.write_table(second if isinstance(second, pa.Table) else pa.table(second), bad)
    with pytest.raises(UserError, match=f"part-1.parquet.*{message}") as raised:
        choose_prompts(str(tmp_path), 1, 0, PromptFilter(min_score=6))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("groups", [0, 1])
def test_a_source_without_rows_holds_no_caption(tmp_path, groups):
    table = pa.table({"TEXT": pa.array([], pa.string())})
    with pq.ParquetWriter(tmp_path / "empty.parquet", table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table)
    with pytest.raises(UserError, match="holds no caption that can be used"):
        choose_prompts(str(tmp_path), 1, 0)


def test_hidden_copies_are_not_read_and_linked_folders_and_capitals_are(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name, caption in (("a.PARQUET", "a fox"), ("elsewhere/b.parquet", "an owl")):
        pq.write_table(pa.table({"TEXT": [caption]}), tmp_path / name)
    source = tmp_path / "prompts"
    (source / ".ipynb_checkpoints").mkdir(parents=True)
    pq.write_table(pa.table({"TEXT": ["an old fox"]}), source / ".ipynb_checkpoints/a-checkpoint.parquet")
    (source / "._a.parquet").write_bytes(b"\0\5\x16\7")  # macOS
    (tmp_path / "a.PARQUET").rename(source / "a.PARQUET")
    (source / "more").symlink_to(tmp_path / "elsewhere")
    assert sorted(choose_prompts(str(source), 2, 0)["caption"]) == ["a fox", "an owl"]
    (tmp_path / "mine.TXT").write_text("a cat\n")
    assert choose_prompts(str(tmp_path / "mine.TXT"), 1, 0)["caption"].tolist() == ["a cat"]


def test_a_folder_without_parquet_files_is_named(tmp_path):
    with pytest.raises(UserError, match=f"no parquet files in {tmp_path}"):
        choose_prompts(str(tmp_path), 1, 0)


def test_taking_a_few_captions_does_not_copy_all_of_them(tmp_path):
    every = [f"caption {i} " + "x" * 100 for i in range(10_000)]
    path = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(10_000), "caption": every}).to_parquet(path, row_group_size=1000)
    captions = read_prompts(path)
    usual, watched = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(watched)
    try:
        assert captions.take([9_999, 0, 5_000]).to_pylist() == [every[9_999], every[0], every[5_000]]
    finally:
        pa.set_memory_pool(usual)
    assert watched.max_memory() < 10_000  # bytes, of 1.1 MB


def test_a_teacher_without_text_has_one_prompt_and_it_is_empty():
    chosen = choose_prompts("unconditional", 8, 0)
    assert chosen.to_dict("list") == {"prompt_id": [0], "caption": [""]}


def test_the_setting_that_names_a_column_is_in_the_message(tmp_path):
    path = tmp_path / "own.parquet"
    pd.DataFrame({"words": ["a", "b"]}).to_parquet(path)
    with pytest.raises(UserError, match="set `caption_column`"):
        choose_prompts(str(path), 1, 0)
    with pytest.raises(UserError, match="set `score_column`"):
        choose_prompts(str(path), 1, 0, PromptFilter(caption_column="words", min_score=2))


def test_the_options_of_the_script_choose_the_prompts(laion, tmp_path):
    def chosen(**options):
        out = tmp_path / "new" / "prompts.parquet"
        prepare_prompts.main(prepare_prompts.Arguments(source=str(laion), out=out, **options))
        table = pd.read_parquet(out)
        assert list(table) == ["prompt_id", "caption"] and table["prompt_id"].tolist() == list(range(len(table)))
        return table["caption"].tolist()

    assert chosen(count=9, seed=2) == choose_prompts(str(laion), 9, 2)["caption"].tolist() != chosen(count=9)
    assert sorted(chosen(count=37, min_score=6.25)) == sorted(f"picture {i}" for i in range(63, 100))
    assert sorted(chosen(count=10, longest=9)) == sorted(f"picture {i}" for i in range(10))
    assert all(len(caption) == 10 for caption in chosen(count=90, shortest=10))
    with pytest.raises(UserError, match="no column 'words'"):
        chosen(count=1, caption_column="words")
    with pytest.raises(UserError, match="no column 'liked'"):
        chosen(count=1, score_column="liked")


def parquet(table):
    pq.write_table(table, buffer := io.BytesIO())
    return buffer.getvalue()


# columns of three values of any type
arrays = st.sampled_from([
    pa.array(each)
    for each in (
        ["a fox", None, "  "], [b"a fox", b"caf\xe9", b""], [1, 2, 3], [None] * 3, [["a"], [], None], [{"a": 1}] * 3,
        [True, False, None], [date(2026, 1, 1)] * 3, [0.5, float("nan"), float("inf")],
    )
])  # fmt: skip
TEXTS = pa.table({"TEXT": ["a fox", "an owl", None], "score": [5.0, 6.5, 7.0]})
SOURCES = st.one_of(
    st.tuples(st.just("a.txt"), st.binary(max_size=40) | damaged("a fox\nun café\n".encode())),
    st.tuples(st.just("a.parquet"), st.binary(max_size=40) | damaged(parquet(TEXTS))),
    st.tuples(st.just("a.parquet"), st.dictionaries(st.sampled_from(["TEXT", "score"]), arrays, min_size=1)),
)


@fuzzed
@given(source=SOURCES, wanted=st.sampled_from([PromptFilter(), PromptFilter(min_score=6)]))
def test_any_file_gives_captions_or_one_line(tmp_path, source, wanted):
    name, content = source
    path = tmp_path / name
    if isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_bytes(content)
    chosen = read(choose_prompts, str(path), 2, 0, wanted)
    assert chosen is None or all(isinstance(each, str) and each for each in chosen["caption"])
    read(read_prompts, path)


PROMPTS = parquet(pa.table({"prompt_id": range(3), "caption": ["a fox", "an owl", "a cat"]}))


@fuzzed
@given(content=damaged(PROMPTS))
def test_any_list_of_prompts_is_read_or_told_in_one_line(tmp_path, content):
    path = tmp_path / "prompts.parquet"
    path.write_bytes(content)
    captions = read(read_prompts, path)
    assert captions is None or None not in captions.to_pylist()
