"""The main job on real input: files go through the bucket, the answer comes back with citations that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.servers import scratch_directory
from tests.fixtures.stack import Cli

FACT = "The archive of the Halvorsen survey is kept in cabinet forty-two."
Up = dict[str, Any]  # Any: a JSON document


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Cli, Up]]:
    """A stack as its first `up` leaves it, with the handbook."""
    with scratch_directory() as folder:
        cli = Cli(folder / "home")
        try:
            yield cli, cli.json("up", "--detach")
        finally:
            cli.run("down", "--wipe")


def stored_text(started: Up, document: str) -> str:
    answer = httpx.get(
        f"{started['platform_url']}/v1/documents/{document}",
        params={"content": "text"},
        headers={"Authorization": f"Bearer {started['tenant_key']}"},
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_first_answer_cites_what_the_handbook_says(up: tuple[Cli, Up]) -> None:
    _, started = up
    welcome = started["welcome"]
    assert "within one second" in welcome["answer"]
    for citation in welcome["citations"]:
        text = stored_text(started, citation["document"])
        assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_the_handbook_holds_a_pdf_and_a_docx(up: tuple[Cli, Up]) -> None:
    _, started = up
    answer = httpx.get(
        f"{started['platform_url']}/v1/documents?limit=500",
        headers={"Authorization": f"Bearer {started['tenant_key']}"},
    )
    searchable = {row["name"] for row in answer.json()["documents"] if row["state"] == "searchable"}
    assert {Path(name).suffix for name in searchable} >= {".md", ".pdf", ".docx"}


def test_an_ingested_file_is_answered_from(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    folder = cli.path.parent / "notes"
    folder.mkdir()
    (folder / "survey.md").write_text(f"# Survey\n\n{FACT}\n")
    ingested = cli.json("ingest", str(folder))
    assert [(row["name"], row["state"]) for row in ingested["documents"]] == [("notes/survey.md", "searchable")]
    answered = cli.json("ask", "In which cabinet is the archive of the Halvorsen survey kept?")
    assert "forty-two" in answered["answer"]
    assert answered["citations"][0]["document"] == "notes/survey.md"
    assert answered["citations"][0]["quote"] == FACT
    assert answered["model"]
    assert answered["usage"]["total_tokens"] > 0


def test_a_file_whose_name_cannot_be_stored_holds_up_no_other(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    folder = cli.path.parent / "odd"
    folder.mkdir()
    for name in ("Grüße ★.md", "two\nlines.md"):
        (folder / name).write_text("The beacon of Tarn answers to nine.\n")
    done = cli.run("ingest", str(folder), "--json")
    states = {row["name"]: row["state"] for row in json.loads(done.stdout)["documents"]}
    assert done.returncode == 1
    assert states == {"odd/Grüße ★.md": "searchable", "odd/two\nlines.md": "rejected"}


def test_a_changed_file_replaces_what_was_known(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    file = cli.path.parent / "badge.txt"
    for colour in ("purple", "turquoise"):
        file.write_text(f"Visitors of the Ostrava laboratory wear a {colour} badge.\n")
        cli.json("ingest", str(file))
    answer = cli.json("ask", "Which badge do visitors of the Ostrava laboratory wear?")["answer"]
    assert "turquoise" in answer
    assert "purple" not in answer


def test_a_file_that_cannot_be_read_is_named_with_its_reason(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    file = cli.path.parent / "broken.pdf"
    file.write_bytes(b"%PDF-1.7\nnothing that a reader could follow")
    done = cli.run("ingest", str(file))
    assert done.returncode == 1
    assert "broken.pdf" in done.stdout
    assert "searchable" not in done.stdout


def test_the_answers_were_counted_and_audited(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    rows = {row["group"]: row for row in cli.json("usage")["rows"]}
    assert rows["doc-chat"]["calls"] >= 1
    assert f"doc-chat,{rows['doc-chat']['calls']}," in cli.run("usage", "--csv").stdout
    assert [row["group"] for row in cli.json("usage", "--by", "tenant")["rows"]] == ["demo"]
    assert cli.json("audit", "verify")["ok"]


def test_a_price_is_set_listed_and_removed(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    model = ("vllm/house/model", "--since", "2026-12-01")
    cli.json(
        "price", "set", *model, "--input", "0.5", "--output", "1", "--rate", "batch.input=0", "--rate", "batch.output=0"
    )
    (price,) = cli.json("price", "ls")["prices"]
    assert [(card["tier"], card["input"]) for card in price["cards"]] == [("standard", "0.5"), ("batch", "0")]
    assert "vllm/house/model" in cli.run("price", "ls").stdout
    cli.json("price", "rm", *model)
    assert cli.json("price", "ls")["prices"] == []


def test_what_was_known_before_down_is_known_after_up(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("down")
    again = cli.json("up", "--detach")
    assert again["tenant_key"] == started["tenant_key"]
    assert cli.json("ask", "How long does a revoked key keep working?")["citations"]
