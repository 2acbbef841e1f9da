"""Guards see what no similarity would: a question that differs in a word and wants another answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.gateway.llm.semantic.asked import Asked, asked_in, is_for_others
from functions.gateway.llm.semantic.guards import agreement, difference
from functions.gateway.llm.semantic.reading import read
from functions.gateway.llm.semantic.redundancy import shortened
from shared.ids import TenantId
from shared.llm.answers import key_of
from shared.secrets import DataKey, TenantSecrets
from tests.load.gateway.semantic import INDEPENDENT, PAIRS, Drawn, asked_of, groups

Json = Any  # Any: JSON


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("How do I view the logs of the last 24 hours?", "How do I view the logs of the last 48 hours?", "number"),
        ("Give me two ideas", "Give me three ideas", "number"),
        ("Is the meeting on 3 May?", "Is the meeting on 4 May?", "number"),
        ("Which file is larger than 5 MB?", "Which file is larger than 5 GB?", "words"),
        ("What does error E42 mean?", "What does error E24 mean?", "code"),
        ("Open /etc/hosts", "Open /etc/passwd", "code"),
        ('Translate "good morning"', 'Translate "good evening"', "quoted"),
        ("Can I pay with a card?", "Can I not pay with a card?", "negation"),
        ("Can I sign in with Google?", "Can I sign in without Google?", "negation"),
        ("Does every employee need a badge?", "Does an employee need a badge?", "quantifier"),
        ("Who can see my orders?", "Who can see his orders?", "person"),
        ("Must I tip?", "Can I tip?", "modality"),
        ("Is Pluto a planet?", "Was Pluto a planet?", "tense"),
        ("Do you ship to Canada?", "Do you ship to Mexico?", "words"),
        ("Convert 10 miles to kilometers.", "Convert 10 kilometers to miles.", "direction"),
        ("How do I get from Paris to London?", "How do I get from London to Paris?", "direction"),
        ("Is Python faster than Java?", "Is Java faster than Python?", "direction"),
        ("How do I convert a string to an integer?", "How do I convert an integer to a string?", "direction"),
        ("Why was I charged?", "When was I charged?", "asked"),
        ("Wie kündige ich mein Abo?", "How do I cancel my subscription?", "language"),
        ("How do I enable it?", "How do I disable it?", "words"),
        ("Set a timeout of 30 seconds", "Set a timeout of 30 minutes", "words"),
        ("What is due after the audit?", "What is due before the audit?", "span"),
        ("May I edit the form after the review?", "May I edit the form during the review?", "span"),
        ("Is travelling in a storm safe?", "Is travelling after a storm safe?", "span"),
        ("Was passiert vor dem Update?", "Was passiert nach dem Update?", "span"),
        ("Which teams have more than 20 members?", "Which teams have exactly 20 members?", "bound"),
        ("Can kids over 12 join?", "Can kids younger than 12 join?", "bound"),
        ("Wer prüft Rechnungen über 50 Euro?", "Wer prüft Rechnungen unter 50 Euro?", "bound"),
        ("How many days does it take?", "How many weeks does it take?", "measure"),
        ("Is it allowed to install games?", "Is it forbidden to install games?", "negation"),
        ("Run it as a root user", "Run it as a non-root user", "negation"),
        ("Solve x + 5 = 20", "Solve x - 5 = 20", "sign"),
        ("Who must sign the contract?", "Who may sign the contract?", "modality"),
        ("Should sessions be stored?", "Are sessions stored?", "modality"),
        ("Puis-je travailler depuis Lyon ?", "Dois-je travailler depuis Lyon ?", "modality"),
        ("Darf ich den Vertrag kündigen?", "Muss ich den Vertrag kündigen?", "modality"),
        ("When was the law passed?", "When will the law be passed?", "tense"),
        ("Wann wurde das Konto gesperrt?", "Warum wurde das Konto gesperrt?", "asked"),
        ("Who does Alice report to?", "Who reports to Alice?", "asked"),
        ("Is a square a rectangle?", "Is a rectangle a square?", "direction"),
        ("Are all squares rectangles?", "Is every rectangle a square?", "direction"),
        ("Can Alice see Bob's calendar?", "Can Bob see the calendar of Alice?", "direction"),
        ("Is a private phone allowed in a company car?", "Is a company phone okay in a private car?", "direction"),
        ("How do I replace tea with coffee?", "How can I replace coffee with tea?", "direction"),
        ("When should I use a list instead of a tuple?", "When do I use a tuple rather than a list?", "direction"),
        ("Turn a list of words into a list of tags", "Convert a list of tags to a list of words", "direction"),
        (
            "What time is it in Oslo if it is noon in Rome?",
            "What time is it in Rome if it is noon in Oslo?",
            "direction",
        ),
        ("What do cats think of dogs?", "What do dogs think of cats?", "direction"),
        ("Is 3 less than 5?", "Is 5 less than 3?", "direction"),
        ("Why does tax follow income?", "Why does income follow tax?", "direction"),
    ],
)
def test_a_difference_is_seen_and_named(one: str, other: str, kind: str) -> None:
    assert difference(read(one), read(other)) == kind
    assert difference(read(other), read(one)) == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "What's the procedure for resetting my password?"),
        ("How do I turn on two-factor authentication?", "Please explain how to activate 2FA."),
        ("How do I cancel my subscription?", "What steps do I take to end my subscription?"),
        ("Why is the sky blue?", "What is the reason that the sky is blue?"),
        ("Can I pay by bank transfer?", "Is it possible to pay by bank transfer?"),
        ("Convert 10 miles to kilometers.", "How many km are 10 miles?"),
        ("Which customers bought more than 100 licenses?", "Which clients purchased over 100 licenses?"),
        ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
        ("How do I summarise a report?", "Hi there, could you explain how to summarize a report?"),
        ("With kubectl, how do I drain a node?", "How do I drain a node with kubectl?"),
        ("How do I merge two dicts in Python?", "In Python, how can two dictionaries be merged?"),
        ("Our build is slow since Monday. Why?", "Why is our build slow since Monday?"),
        ("My printer is out of paper. Who refills it?", "Who refills my printer if it is out of paper?"),
        ("Which jobs ran in the last 24 hours?", "Which jobs ran in the last 24h?"),
        ("What happens after I cancel?", "What happens when I cancel?"),
        ("Who must sign the contract?", "Can you tell me who signs the contract?"),
        ("How do I sort a list of words?", "Sort a list of words."),
        ("Explain a service mesh", "What is a service mesh?"),
        ("Do we need a data protection officer?", "Do we need a DPO?"),
        ("What is the timezone?", "What is the time zone?"),
        ("How do I format a float?", "How do I fromat a float?"),
        ("Who cancelled my booking?", "Who canceled my boking?"),
        ("How do I back up my data once a day?", "How can my data be backed up 1 time per day?"),
        ("How do I make the font bigger?", "How do I enlarge the font?"),
        ("Wie setze ich mein Passwort zurück?", "Wie kann ich mein Kennwort zurücksetzen?"),
        ("Comment supprimer une branche ?", "Pourriez-vous m'expliquer comment effacer une branche ?"),
        ("¿Cómo puedo borrar una rama?", "¿De qué manera se elimina una rama?"),
    ],
)
def test_other_words_are_no_difference(one: str, other: str) -> None:
    assert difference(read(one), read(other)) == ""
    assert 0.8 < agreement(read(one), read(other)) <= 1


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("My printer is out of paper. Who refills it?", "@who"),
        ("With a company card and a badge, where do I park?", "@where"),
        ("Sort a list", "@unknown"),
        ("Aus welchem Grund ist mein Konto gesperrt?", "@why"),
        ("De quelle manière peut-on annuler ?", "@how"),
        ("¿En qué año empezó?", "@when"),
    ],
)
def test_what_is_asked_for_is_read_wherever_the_question_stands(question: str, asked: str) -> None:
    assert read(question).asked == {asked}


TEXTS = sorted(
    {asked_of(text).question for path in (PAIRS, INDEPENDENT) for group in groups(path) for text in group.texts}
)


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS))
def test_it_does_not_matter_which_question_was_first(one: str, other: str) -> None:
    assert bool(difference(read(one), read(other))) == bool(difference(read(other), read(one)))
    assert agreement(read(one), read(one)) == 1.0


@given(st.text(max_size=300))
def test_any_text_can_be_read_and_is_the_same_as_itself(text: str) -> None:
    assert difference(read(text), read(text)) == ""
    assert shortened((text, read(text)), (text, read(text))) == []


@given(st.sampled_from(TEXTS), st.integers(2, 10**6), st.integers(2, 10**6))
def test_another_number_is_always_seen(text: str, one: int, other: int) -> None:
    differing = difference(read(f"{text} Take {one}."), read(f"{text} Take {other}."))
    assert (differing == "") == (one == other)


BODIES = st.builds(
    Drawn,
    st.integers(0, 1),
    st.tuples(
        st.sampled_from(["gpt-4o-mini", "gpt-4o"]),
        st.sampled_from([0, 0.5, 1]),
        st.sampled_from(["", "search", "weather"]),
        st.sampled_from(["Be brief.", "Be kind."]),
        st.sampled_from(["", "I use a Mac.", "I use Windows."]),
    ),
    st.sampled_from(["How do I reset it?", "How can I reset it?", "Why?"]),
)
TENANTS = [TenantSecrets(DataKey(TenantId(name), b"k" * 32)) for name in ("acme", "globex")]


@settings(max_examples=1000)
@given(BODIES, BODIES)
def test_no_answer_crosses_a_tenant_a_parameter_a_tool_or_a_turn(one: Drawn, other: Drawn) -> None:
    def keys(drawn: Drawn) -> tuple[str, str]:
        asked = asked_in(drawn.body)
        assert asked is not None
        return key_of(TENANTS[drawn.tenant], {}, drawn.body), key_of(TENANTS[drawn.tenant], {"of": "scope"}, asked.rest)

    (exact, scope), (other_exact, other_scope) = keys(one), keys(other)
    assert (exact == other_exact) == (one == other)
    assert (scope == other_scope) == ((one.tenant, one.rest) == (other.tenant, other.rest))


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3), st.text(max_size=20))
def test_what_is_not_the_last_text_stays_in_the_scope(more: Json, text: str) -> None:
    body = {**more, "messages": [{"role": "user", "content": [{"type": "text", "text": "first"}]}]}
    body["messages"].append({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})
    body["messages"][-1]["content"].append({"type": "text", "text": text})
    asked = asked_in(body)
    if not text.strip() or "\x00" in text or body.get("n") or body.get("store"):
        assert asked is None or asked.question == text.strip()
        return
    assert isinstance(asked, Asked)
    assert asked.question == text.strip()
    assert "image_url" in json.dumps(asked.rest)
    assert "first" in json.dumps(asked.rest)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "x" * 601}]},
        {"messages": [{"role": "user", "content": "x"}], "n": 2},
        {"messages": [{"role": "user", "content": "x"}], "store": True},
        {"messages": "x"},
        {"messages": [None]},
    ],
)
def test_what_does_not_end_with_a_users_words_is_for_the_same_question_only(body: Json) -> None:
    assert asked_in(body) is None


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ({"choices": [{"finish_reason": "stop", "message": {"content": "x"}}]}, True),
        ({"choices": [{"finish_reason": "length", "message": {"content": "x"}}]}, False),
        ({"choices": [{"finish_reason": "stop", "message": {"tool_calls": [{}]}}]}, False),
        ({"stop_reason": "end_turn", "content": []}, True),
        ({"stop_reason": "tool_use", "content": []}, False),
        ({"stop_reason": "max_tokens", "content": []}, False),
        ({"data": []}, False),
        ([], False),
        ({"choices": [None], "delta": 3}, False),
    ],
)
def test_only_an_answer_that_ended_by_itself_is_for_others(answer: Json, good: bool) -> None:
    assert is_for_others("application/json", json.dumps(answer).encode()) is good
