"""Sound text does not change, garbled text is repaired or dropped, repeats are dropped."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.data.corpus.cleaning import (
    CleaningReport,
    clean,
    content_key,
    hold_out,
    looks_broken,
    normalise,
    repair,
)

SOUND = [
    "“It’s late,” said Tom — ‘very’ late…",
    "naïve café, Ñandú, smörgåsbord, œuvre, 5 °C, £3, ½, ©",
    "“THE CAFÉ”, „viel Spaß“ – «CAFÉ», ‘café’”, VOILÀ… DÉJÀ”",
    "東京 Привет ÐÑ Ελλάδα 🦜",
    "tab\there",
    "l’été’, À “, Â l’ancienne, âge, ð, ï",
]


def garbled(text):
    """UTF-8 read as Windows-1252; the five bytes that it lacks become control characters."""
    return "".join(
        bytes([b]).decode("cp1252") if b not in b"\x81\x8d\x8f\x90\x9d" else chr(b)
        for b in text.encode()
    )


def cleaned(texts, **options):
    report = CleaningReport()
    return list(clean(texts, report, **options)), report


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_is_left_alone(text):
    assert not looks_broken(text)
    assert repair(text) == text
    assert normalise(text) == text


@pytest.mark.parametrize("text", [SOUND[0], SOUND[1], "Привет", "🦜", "été", "Ö", "a\xa0b", "→ ™"])
@pytest.mark.parametrize("times", [1, 2])
def test_mojibake_is_found_and_repaired(text, times):
    broken = text
    for _ in range(times):
        broken = garbled(broken)
    assert looks_broken(broken)
    assert repair(broken) == text


def test_mojibake_as_latin_1_and_beside_sound_characters():
    assert repair("It’s".encode().decode("latin-1")) == "It’s"
    assert repair("“Itâ€™s 東京 cafÃ©,” he said") == "“It’s 東京 café,” he said"


@given(st.text("aé ”’“—…üñ€™\n東", min_size=1))
def test_repair_undoes_garbling(text):
    """If the text itself looks garbled, it is repaired as well."""
    result = repair(garbled(text))
    assert result in (text, repair(text)) or (result == garbled(text) and not looks_broken(result))


@pytest.mark.parametrize("text", ["\ufffd", "a\0", "a\x81b", "a\x7f", "â€", "ï¿½", "Ã©\ufffd"])
def test_what_cannot_be_repaired_stays_and_is_broken(text):
    if text == "â€":  # incomplete: the original is unknown
        assert repair(text) == text
        return
    assert looks_broken(text)
    assert looks_broken(repair(text))
    assert repair(repair(text)) == repair(text)


def test_a_capital_a_with_tilde_before_a_closing_quote_reads_as_mojibake():
    """Ã” and Ã» are the bytes of Ô and û: no rule can tell whether they are sound text."""
    assert repair("«MAÇÃ»") == "«MAÇû"


def test_a_control_character_that_stands_for_one_of_windows_1252_is_repaired():
    assert repair("a\x85b") == "a…b"


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not set(once) & set("\r\xa0\u200b\ufeff")
    assert "\n\n\n" not in once
    assert all(line == line.rstrip(" \t") for line in once.split("\n"))


def test_normalise():
    text = "\ufeff\r\n e\u0301 a\xa0b\u200b \t\r\n\r\n \r\n\nc\rd  \n\n"
    assert normalise(text) == " é a b\n\nc\nd"


def test_clean_counts_what_it_does():
    texts = ["a b", " \u200b\n", "a\xa0b", "bad \ufffd", "itâ€™s", "it’s", "held", "last \r\n"]
    kept, report = cleaned(texts, held_out={content_key("held")})
    assert kept == ["a b", "it’s", "last"]
    assert report == CleaningReport(
        read=8, empty=1, broken=1, repeated=2, held_out=1, kept=3, repaired=1
    )
    assert str(report).startswith("8 read, 1 empty, 1 broken, 2 repeated, 1 held out, 3 kept")


@given(st.lists(st.text()))
def test_clean_text_is_clean(texts):
    kept, report = cleaned(texts)
    again, twice = cleaned(kept)
    assert again == kept
    assert twice == CleaningReport(read=len(kept), kept=len(kept))
    assert len(set(kept)) == len(kept)
    assert report.read == len(texts)
    assert (
        report.read
        == report.empty + report.broken + report.repeated + report.held_out + report.kept
    )


@given(st.lists(st.text(max_size=3), min_size=1, max_size=300))
def test_held_out_documents_are_disjoint_and_depend_on_content_only(texts):
    labelled = list(hold_out(texts))
    parts = {p: [text for part, text in labelled if part == p] for p in ("train", "valid")}
    assert sorted(text for _, text in labelled) == sorted(texts)
    assert parts["valid"] or len(texts) == 1
    assert not set(parts["valid"]) & set(parts["train"])
    backwards = list(hold_out(texts[::-1]))
    assert {text for part, text in backwards if part == "valid"} == set(parts["valid"])


@pytest.mark.parametrize("texts", [["a", "b", "c", "a", "b", "c"], ["x", "y"]])
def test_of_few_documents_one_is_held_out(texts):
    assert len({text for part, text in hold_out(texts) if part == "valid"}) == 1


def test_the_only_document_trains():
    """Its end is for validation, see `corpora`."""
    for i in range(200):  # whatever its content key
        assert list(hold_out([str(i)])) == [("train", str(i))]


def test_a_hundredth_is_held_out():
    labels = [part for part, _ in hold_out(str(i) for i in range(20_000))]
    assert 150 < labels.count("valid") < 250
