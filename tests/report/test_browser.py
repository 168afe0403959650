"""The page in real headless Chromium: what a reader can do with it, and what a model cannot."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from statewise.report.server.serve import serving, site_of
from statewise.visible import NAMED, visible

CSS = "css selector"


def wait_for(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def size(browser: Any, width: int, height: int = 900) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def opened(browser: Any, whole: Any) -> Any:
    """The page from disk, fresh, at a desk's width."""
    size(browser, 1280)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((whole.run / "report.html").as_uri())
    return browser


def one(browser: Any, selector: str) -> Any:
    return browser.find_element(CSS, selector)


def every(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements(CSS, selector)


def press(browser: Any, selector: str) -> None:
    """A real click in the middle of the element, past the bar that stays on top."""
    element = one(browser, selector)
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element
    )
    element.click()


def test_it_opens_from_disk_without_a_request_or_a_word_on_the_console(opened: Any) -> None:
    press(opened, "[data-jump=moved]")
    assert opened.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # The log of a fresh browser also holds its own start page.
    page = [r["request"]["url"] for r in requests if r["documentURL"].startswith("file:")]
    assert page == [opened.current_url.partition("#")[0]]


def test_what_a_model_wrote_does_not_run_and_is_there_to_read(opened: Any) -> None:
    for details in every(opened, "details"):
        opened.execute_script("arguments[0].open = true", details)
    assert opened.execute_script("return typeof window.evil") == "undefined"
    assert every(opened, "main img") == []
    tokens = one(opened, ".rollout .tokens").get_attribute("textContent")
    for text in ("</script>", "<script>window.evil=1</script>", "⟨RLO⟩", "⟨NUL⟩", '·"', "&lt;"):
        assert text in tokens
    shown = one(opened, "#failures ~ details pre bdi").text
    assert shown.startswith("<script>window.evil=1</script>⟨RLO⟩abc⟨NUL⟩</script>")
    assert all(cell.find_elements(CSS, "bdi") for cell in every(opened, ".rollout .tok"))


def test_script_and_page_agree_on_what_is_visible(opened: Any) -> None:
    text = "a\x00\x07\x1b\x7f\x9b\t\n " + "".join(map(chr, NAMED)) + "ж😀\ufffd"
    assert opened.execute_script("return visible(arguments[0])", text) == visible(text)


def test_every_view_has_data(opened: Any, whole: Any) -> None:
    assert len(every(opened, ".verdict")) == 6
    for plate in whole.plates:
        figure = one(opened, f"section[aria-labelledby='{plate.name}'] figure")
        drawn = [p for p in figure.find_elements(CSS, ".plot") if p.is_displayed()]
        assert drawn, plate.name
        pictures = [p for p in drawn if not p.get_attribute("aria-label").startswith("Legend")]
        assert pictures, plate.name
        assert all(p.size["height"] > 50 for p in pictures), plate.name
    assert len(every(opened, ".rollout .tok")) > 7 * 20
    assert len(every(opened, "#duel-items tbody tr")) == 20


def test_a_click_on_a_token_shows_its_state_and_the_five_next_of_three_policies(
    opened: Any, whole: Any
) -> None:
    document = next(m for m in whole.material.microscopes if m["arm"] == "opd_from_stress")
    rollout = document["prompts"][0]["rollouts"][0]
    press(opened, ".rollout[data-arm=opd_from_stress] [data-t='14']")
    panel = one(opened, "#state")
    assert "State before token 15 of" in panel.text
    words = [document["vocabulary"][str(t)] for t in rollout["token_ids"]]
    given = one(opened, "#state .given").get_attribute("textContent")
    assert given == visible(document["prompts"][0]["text"])
    written = one(opened, "#state .written").get_attribute("textContent")
    plain = "".join(words[:14]).replace(" ", "·").replace("\n", "⏎\n")
    assert written == visible(plain)
    policies = panel.find_elements(CSS, ".policy")
    assert [p.find_element(CSS, "h4").text for p in policies] == [
        "base",
        "teacher (stress_sft)",
        "student",
    ]
    for name, part in zip(("base", "teacher", "student"), policies, strict=True):
        row = rollout["top"][name][14]
        shares = [float(p.text.removesuffix(" %")) for p in part.find_elements(CSS, ".p")]
        assert shares == pytest.approx([100 * p for p in row[1::2]], abs=0.051)
        texts = [w.get_attribute("textContent") for w in part.find_elements(CSS, ".word")]
        wanted = [visible(document["vocabulary"][str(t)]) for t in row[::2]]
        assert texts == [w.replace(" ", "·").replace("\n", "⏎") for w in wanted]
        chosen = {w.get_attribute("textContent") for w in part.find_elements(CSS, ".chosen .word")}
        assert chosen == {one(opened, "#state .token-line .tok").get_attribute("textContent")}
        bars = [b.size["width"] for b in part.find_elements(CSS, ".barfill")]
        assert bars == sorted(bars, reverse=True)
    assert f"{rollout['kl_to_base'][14]:.4f}" in panel.text


def test_an_arm_without_a_teacher_says_so(opened: Any) -> None:
    press(opened, ".rollout[data-arm=grpo] [data-t='3']")
    teacher = every(opened, "#state .policy")[1]
    assert teacher.text == "teacher\nnone here"
    assert "advantage" in one(opened, "#state .numbers").text
    assert "gap" not in one(opened, "#state .numbers").text


def test_the_keyboard_goes_along_a_completion_and_between_arms(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def at() -> tuple[str, str]:
        focused = opened.switch_to.active_element
        row = focused.find_element("xpath", "ancestor::div[@class='rollout']")
        assert focused.get_attribute("aria-selected") == "true"
        assert len(every(opened, ".rollout [aria-selected=true]")) == 1
        return row.get_attribute("data-arm"), focused.get_attribute("data-t")

    press(opened, ".rollout[data-arm=mild_sft] [data-t='4']")
    steps = ((Keys.ARROW_RIGHT, ("mild_sft", "5")), (Keys.ARROW_LEFT, ("mild_sft", "4")))
    steps += ((Keys.ARROW_DOWN, ("stress_sft", "4")), (Keys.ARROW_UP, ("mild_sft", "4")))
    steps += ((Keys.HOME, ("mild_sft", "0")), (Keys.ENTER, ("mild_sft", "0")))
    for key, place in steps:
        opened.switch_to.active_element.send_keys(key)
        assert at() == place
        assert f"State before token {int(place[1]) + 1} of" in one(opened, "#state h3").text
        assert place[0] in one(opened, "#state h3 small").text
    # One stop of the Tab key an arm, wherever in it one was.
    assert len(every(opened, ".rollout .tok[tabindex='0']")) <= len(every(opened, ".rollout"))


def test_jumps_go_to_the_largest_first_and_then_on(opened: Any, whole: Any) -> None:
    values = sorted(
        (
            value
            for document in whole.material.microscopes
            for prompt in document["prompts"]
            for rollout in prompt["rollouts"]
            for value in rollout["kl_to_base"]
        ),
        reverse=True,
    )
    for rank in (0, 1):
        press(opened, "[data-jump=moved]")
        assert one(opened, "#scope-found").text.startswith(f"{rank + 1} of the 200 most moved")
        assert f"{values[rank]:.4f}" in one(opened, "#state .numbers").text
    press(opened, "[data-jump=disagreed]")
    gaps = (
        abs(v)
        for d in whole.material.microscopes
        for p in d["prompts"]
        for w in p["rollouts"]
        for v in w["gap"] or ()
    )
    assert f"{max(gaps):.2f} nats apart" in one(opened, "#scope-found").text
    opened.execute_script("document.getElementById('scope-among').value = 'grpo'")
    press(opened, "[data-jump=disagreed]")
    assert one(opened, "#scope-found").text == "No teacher among these arms."
    press(opened, "[data-jump=forgotten]")
    assert "grpo, prompt" in one(opened, "#scope-found").text
    first = one(opened, "#state .numbers").text.split("base's first token\n")[1].split("\n")[0]
    before, after = (float(part.replace("at most", "").strip(" %")) for part in first.split("→"))
    assert before > after


def test_colours_follow_the_measure_and_the_legend_says_how(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    def classes() -> set[str]:
        return {
            c for t in every(opened, ".rollout .tok") for c in t.get_attribute("class").split()
        } - {"tok"}

    assert all(c.startswith("heat") for c in classes())
    assert len(every(opened, "#scope-legend .tok")) == 9
    Select(one(opened, "#scope-measure")).select_by_value("gap")
    assert "none" in classes()
    assert any(c.startswith("div") for c in classes())
    Select(one(opened, "#scope-rollout")).select_by_value("trained")
    Select(one(opened, "#scope-measure")).select_by_value("owner")
    assert classes() == {"owner", "student", "teacher"}
    assert {t.text for t in every(opened, "#scope-legend .tok")} == {"student", "teacher"}


def test_an_arm_with_one_completion_says_whether_it_trains_on_it(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(one(opened, "#scope-rollout")).select_by_value("trained")
    said = {
        row.get_attribute("data-arm"): row.find_element(CSS, ".of").text
        for row in every(opened, ".rollout")
    }
    assert "it does not train" in said["base"]
    assert "its own is what it trains on" in said["grpo"]
    assert "what it is trained on cannot be shown for these prompts" in said["mild_sft"]
    assert said["opd_from_mild"].startswith("taught by mild_sft · trained on")


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_makes_the_page_scroll_sideways(opened: Any, width: int) -> None:
    size(opened, width)
    opened.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    press(opened, ".rollout[data-arm=opd_from_mild] [data-t='7']")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    if width == 400:  # the state stands behind the arm that is looked at
        before = one(opened, ".rollout[data-arm=opd_from_mild]")
        assert (
            before.find_element("xpath", "following-sibling::*[1]").get_attribute("id") == "state"
        )


@pytest.mark.parametrize("width", [360, 1280])
def test_no_token_is_broken_over_two_lines(opened: Any, width: int) -> None:
    """In the completions, and in the state that the panel shows; a longer one than a line has a box of its own."""
    size(opened, width)
    press(opened, ".rollout[data-arm=opd_from_mild] [data-t='30']")
    boxes = "[...document.querySelectorAll(arguments[0])].map((e) => e.getClientRects().length)"
    for selector in (".rollout .tok", "#state .prefix .piece"):
        found = opened.execute_script(f"return {boxes}", selector)
        assert len(found) >= 31
        assert set(found) == {1}, selector
    # A box that is no wider than its line is one line high: the text inside it is not broken either.
    tall = opened.execute_script(
        "const t = [...document.querySelectorAll('.rollout .tok')];"
        "const line = Math.min(...t.map((e) => e.offsetHeight));"
        "return t.filter((e) => e.offsetHeight > 1.5 * line"
        "  && e.offsetWidth < 0.8 * e.parentElement.clientWidth).map((e) => e.textContent)"
    )
    assert tall == []


def test_a_combining_mark_does_not_sit_on_the_token_before(opened: Any) -> None:
    shown = "return spaced(arguments[0]).map((n) => n.textContent).join('')"
    assert opened.execute_script(shown, "\u0301a") == "◌\u0301a"
    assert opened.execute_script(shown, "e\u0301 ⟨F0 9F⟩") == "e\u0301·⟨F0 9F⟩"


def test_tables_and_all_probes_download_as_csv(opened: Any, whole: Any, tmp_path: Path) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)

    def taken(name: str) -> list[list[str]]:
        path = tmp_path / name
        wait_for(lambda: path.exists() and path.stat().st_size)
        return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))

    details = one(opened, "section[aria-labelledby=locality] details")
    opened.execute_script("arguments[0].open = true", details)
    press(opened, "[data-csv-of=locality]")
    plate = next(p for p in whole.plates if p.name == "locality")
    rows = taken("locality.csv")
    assert rows[0] == list(plate.head)
    assert [r[:3] for r in rows[1:]] == [list(r[:3]) for r in plate.rows]
    press(opened, "[data-name=probes]")
    assert len(taken("probes.csv")) == 1 + len(whole.material.results.probes)


def test_numbers_and_ends_of_intervals_are_columns_of_their_own(
    opened: Any, whole: Any, tmp_path: Path
) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    press(opened, "[data-csv-of=results]")
    path = tmp_path / "results.csv"
    wait_for(lambda: path.exists() and path.stat().st_size)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    row = next(r for r in rows if r["arm"] == "stress_sft")
    arm = next(a for a in whole.material.results.arms if a.name == "stress_sft")
    e = arm.score("pocket_gsm", "greedy").quantity.estimate
    head = "pocket_gsm, target, greedy"
    found = [float(row[f"{head}{end}"]) for end in ("", ", low", ", high")]
    assert found == pytest.approx([e.value, e.low, e.high], abs=5e-4)
    # What the page says by a star.
    assert {r["arm"]: r[f"{head}, over"] for r in rows if r["arm"] in ("base", "stress_sft")} == {
        "base": "items",
        "stress_sft": "seeds and items",
    }
    assert float(row["drift, p"]) == 0.001
    assert float(row["drift, MMD², seeds only"]) == pytest.approx(0.04, abs=0.01)
    assert row["no answer, cut"].endswith(" %")
    assert all(None not in r for r in rows)  # as many cells as heads


def test_items_won_and_lost_add_up(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(one(opened, "#duel-a")).select_by_value("stress_sft")
    Select(one(opened, "#duel-b")).select_by_value("base")
    counts = [
        [c.text for c in row.find_elements(CSS, "td")]
        for row in every(opened, "#duel-counts tbody tr")
    ]
    assert (
        [sum(map(int, row[1:4])) for row in counts]
        == [int(row[4]) for row in counts]
        == [60, 120, 120]
    )
    won, lost = (sum(int(row[i]) for row in counts) for i in (1, 2))
    assert lost > won
    Select(one(opened, "#duel-show")).select_by_value("lost")
    assert one(opened, "#duel-status").text.startswith(
        f"{lost} items lost by stress_sft against base"
    )
    differences = [
        row.find_elements(CSS, "td")[-1].text for row in every(opened, "#duel-items tbody tr")
    ]
    assert all(text.startswith("−") for text in differences)


def test_the_theme_follows_the_button(opened: Any) -> None:
    def ground() -> str:
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = ground()
    press(opened, "#theme")
    assert ground() == light == "rgb(255, 255, 255)"
    press(opened, "#theme")
    assert one(opened, "#theme").text == "Theme: dark"
    assert ground() == "rgb(17, 19, 24)"
    press(opened, "#theme")
    assert ground() == light


def test_every_control_has_a_name(opened: Any) -> None:
    bare = opened.execute_script(
        "return [...document.querySelectorAll('button, select, input, [role=listbox]')].filter((e) =>"
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        "|| e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert bare == []
    levels = [int(e.tag_name[1]) for e in every(opened, "h1, h2, h3, h4")]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


# ---- served -------------------------------------------------------------------------------------


@contextmanager
def served(*runs: Path) -> Iterator[str]:
    server = serving(site_of(list(runs)), 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        thread.join()


def test_a_run_in_progress_is_seen_to_move(
    browser: Any, whole: Any, synthetic: Any, tmp_path: Path
) -> None:
    part = synthetic.make_run(tmp_path / "part", arms=("base", "mild_sft"), seeds=(0,), items=20)
    moving = part / "arms" / "grpo" / "seed-0" / "metrics.jsonl"
    moving.parent.mkdir(parents=True)
    moving.write_text('{"step": 7, "loss": 0.5}\n')
    size(browser, 1280)
    browser.get_log("browser")
    with served(part, whole.run) as place:
        browser.get(place + "/")

        # By one script each: the page draws itself anew, and an element that was found may be gone.
        def cell() -> str:
            return browser.execute_script(
                "const rows = [...document.querySelectorAll('section[data-run=part] tr')];"
                "const row = rows.find((r) => r.cells[0].textContent.includes('grpo'));"
                "return row?.querySelector('td')?.innerText.trim() ?? '';"
            )

        wait_for(lambda: cell() == "training 7")
        with moving.open("a") as file:
            file.write('{"step": 8, "loss": 0.4}\n')
        wait_for(lambda: cell() == "training 8")
        first = "return document.querySelector('.run').dataset.run"
        assert browser.execute_script(first) == "part"
        wait_for(lambda: len(every(browser, ".run .verdict")) == 12)
        assert every(browser, "#together .curves polyline[stroke-dasharray]")
        wait_for(lambda: every(browser, "#together .curves circle.point"))
        assert every(browser, "#together .curves rect.point, #together .curves polygon.point")
        shown = "return document.querySelector('section[data-run=part] .standing').textContent"
        assert browser.execute_script(shown) == "live"
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280
        assert browser.get_log("browser") == []
        browser.execute_script("document.querySelector('.run .go a').click()")
        wait_for(lambda: "statewise" in browser.title)
        assert "All runs" in one(browser, ".eyebrow").text


def test_every_item_can_be_found_and_is_text(browser: Any, whole: Any) -> None:
    browser.get_log("browser")
    with served(whole.run) as place:
        (name,) = site_of([whole.run]).runs
        browser.get(
            f"{place}/runs/{name}/items?arm=grpo&task=pocket_gsm&decoding=greedy&find=SCRIPT"
        )
        wait_for(lambda: len(every(browser, "#rows tbody tr")) == 50)
        assert one(browser, "#count").text == "1 to 50 of 180"
        press(browser, "#later")
        wait_for(lambda: one(browser, "#count").text == "51 to 100 of 180")
        assert browser.execute_script("return typeof window.evil") == "undefined"
        response = one(browser, "#rows tbody bdi").text
        assert response == "<script>window.evil=1</script>⟨RLO⟩abc⟨NUL⟩</script>"
        assert browser.get_log("browser") == []
        size(browser, 400)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
