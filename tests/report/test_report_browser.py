# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The page as a reader sees it: a real browser opens the file, and what it shows is what the data say."""

from collections import Counter
from pathlib import Path

import pytest
import report_runs as runs
from browser import find
from report_runs import C, M, W

from erpo.report import write_report
from erpo.runs import GroupLog, MetricsLog

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")


@pytest.fixture(scope="module")
def chromium():
    path = find()
    if path is None:
        pytest.skip("no Chromium found; `python tests/report/browser.py` fetches one")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Page of one run that is raised and one that is not."""
    folder = tmp_path_factory.mktemp("report")
    two = [runs.write_run(folder / "hot", "erpo"), runs.write_run(folder / "cold", "grpo", samples=False)]
    return write_report(two, folder / "out")


@pytest.fixture
def page(chromium, report):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(report.as_uri())
    yield page
    context.close()


def rows(page, section: str, figure: int = 0) -> list[list[str]]:
    """The table of a section's figure, heading first, as the reader sees it."""
    box = page.locator(f"#{section} figure").nth(figure)
    if box.locator("details").get_attribute("open") is None:
        box.locator("summary").click()
    return [row.locator("th, td").all_inner_texts() for row in box.locator("tr").all()]


def column(table: list[list[str]], name: str) -> list[str]:
    return [row[table[0].index(name)] for row in table[1:]]


def test_kinds_over_steps(page):
    table = rows(page, "kinds")
    for name, kind in (("all-correct", C), ("mixed", M), ("all-wrong", W)):
        counts = [Counter(row["outcome"] for row in runs.groups_of(step))[kind] for step in range(1, 9)]
        assert column(table, name) == [f"{count / 4:.1%}" for count in counts]
    assert column(table, "steps") == list("12345678")


def test_temperatures_over_steps_and_the_cap(page):
    table = rows(page, "temperatures")
    assert table[0] == ["steps", "mean T", "T 1", "T 1.2", "T 1.4", "T 1.6"]
    assert table[7] == ["7", "1.300", "25.0%", "25.0%", "25.0%", "25.0%"]
    caption = page.locator("#temperatures figcaption").first.inner_text()
    # Next temperatures after the visits above: prompt 0 stays at the cap, prompt 5 goes from 1.4 to 1.6.
    assert "the cap is 1.6" in caption and "2 of them at the cap" in caption
    assert "no cap" in page.locator("#temperatures figcaption").nth(1).inner_text()


def test_revivals_by_temperature(page):
    by_name = {row[0]: row[1:] for row in rows(page, "revivals")[1:]}
    assert by_name["T 1.20"] == ["2", "4", "50.0%"]
    assert by_name["T 1.40"] == ["2", "3", "66.7%"]
    assert by_name["T 1.60"] == ["0", "1", "0.0%"]
    assert by_name["steps 3"] == ["1", "2", "50.0%"] and by_name["steps 1"] == ["0", "0", "-"]
    assert "4 of 8 groups" in page.locator("#revivals figcaption").first.inner_text()


def test_flow_between_epochs(page):
    table = rows(page, "flow")
    assert table[0] == ["prompts that went from", "epoch 1 to 2", "epoch 2 to 3", "epoch 3 to 4"]
    moves = Counter()
    for visits in runs.VISITS:
        moves.update((i, visits[i][1], visits[i + 1][1]) for i in range(3))
    words = {"all-correct": C, "mixed": M, "all-wrong": W}
    for label, *counts in table[1:]:
        before, after = (words[word] for word in label.split(" to "))
        assert counts == [str(moves[i, before, after]) for i in range(3)]
    assert sum(int(cell) for row in table[1:] for cell in row[1:]) == 24


def test_raised_and_base_groups(page):
    table = rows(page, "raised")
    hot = [row for row in runs.groups_of(7) if row["temperature"] > 1]
    assert column(table, "accuracy, raised")[6] == f"{sum(row['correct'] for row in hot) / 12:.1%}" == "66.7%"
    assert column(table, "share truncated, raised")[6] == f"{2 / 12:.1%}"
    assert column(table, "response length (tokens), raised")[6] == "11.00"
    assert column(table, "accuracy, base")[6] == "0.0%"
    assert column(table, "accuracy, raised")[0] == "-"
    assert column(table, "entropy (nats), all")[6] == "0.57"
    assert "no raised groups" in page.locator("#raised figcaption").nth(1).inner_text()


def test_agreement_and_signal(page):
    assert column(rows(page, "agreement"), "base, largest") == [f"{step}.0e-07" for step in range(1, 9)]
    table = rows(page, "signal")
    assert column(table, "generated tokens") == [f"{runs.tokens_up_to(step):,}" for step in range(1, 9)]
    # Step 8: two of four groups are mixed, eight responses.
    step = sum(sum(row["lengths"]) for row in runs.groups_of(8))
    assert table[8][2:] == ["100.0%", "50.0%", "50.0%", f"{8000 / step:.2f}"]


def test_methods_on_the_same_axes(page):
    table = rows(page, "methods")
    assert table[0] == ["run", "up to step", "generated tokens", "held-out accuracy"]
    tokens = f"{runs.tokens_up_to(8):,}"
    assert ["erpo", "8", tokens, "0.750"] in table and ["grpo", "8", tokens, "0.750"] in table
    assert table[1] == ["erpo", "0", "0", "0.250"]


def test_prompts_with_responses_to_read(page):
    first = page.locator("#prompts .prompt").first
    assert first.get_attribute("data-key") == runs.key(0)
    assert "3 all-correct groups, up to T 1.6, in 4 visits" in first.inner_text()
    revived = page.locator("h4:has-text('Most often revived') + .prompt").first
    assert revived.get_attribute("data-key") == runs.key(1)
    assert "revived 2 times, at T 1.2, 1.4, in 4 visits" in revived.inner_text()
    revived.locator("summary").click()
    assert revived.locator("h5").all_inner_texts() == ["T = 1.2", "T = 1.4"]
    verdicts = revived.locator(".verdict").all_inner_texts()
    assert verdicts == ["✗ wrong, step 3, 11 tokens", "✓ correct, step 5, 11 tokens", "✗ wrong, step 7, 11 tokens"]
    # What a model writes is text, whatever it looks like.
    assert revived.locator("pre").nth(1).inner_text() == runs.RESPONSE
    assert page.title() == "ERPO report: erpo, grpo"
    assert "erpo.samples.every" in page.locator("#prompts .note").inner_text()


def test_page_needs_no_network_and_its_pictures_are_there(page, report):
    assert [url for url in page.requested if not url.startswith("data:")] == [report.as_uri()]
    pictures = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.alt.length])")
    # Seven of each run and seven of both; the tolerance by temperature of the one that raised prompts.
    assert len(pictures) == len(list(report.parent.glob("*.png"))) == 7 * 2 + 7 + 1
    assert all(width > 500 and height > 300 and alt > 20 for width, height, alt in pictures)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_nothing_is_wider_than_the_screen(page, width, media):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(media=media)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    narrow = page.evaluate("Math.min(...[...document.images].map(i => i.getBoundingClientRect().width))")
    assert narrow > (300 if media == "screen" else 150)


def test_an_open_page_follows_a_run_that_is_going(chromium, tmp_path):
    run = tmp_path / "run"
    runs.write_settings(run)
    path = write_report([run], tmp_path / "out", refresh=1)
    page = chromium.new_page()
    page.goto(path.as_uri())
    assert page.locator(".waiting").inner_text() == "erpo: no finished step yet."
    GroupLog(run).write(1, runs.groups_of(1))
    MetricsLog(run).append(1, runs.metrics_of(1))
    # The last page stays: another refresh would close the table while it is read.
    write_report([run], tmp_path / "out")
    page.wait_for_selector("#kinds", timeout=10_000)
    assert page.locator(".waiting").count() == 0
    assert rows(page, "kinds")[1] == ["1", "50.0%", "25.0%", "25.0%", "4"]
    page.close()
