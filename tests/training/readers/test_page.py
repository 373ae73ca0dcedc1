"""The page in a real browser: images are drawn as they are, answers are kept, and a killed server loses none.

Screenshots lie in pytest's folder for temporary files (``--basetemp=FOLDER`` says where), to be looked at.
"""

from __future__ import annotations

import base64
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.training.readers.conftest import LIKERT, METHODS, PREFERENCE, REMARK, YES_NO, form_of

from scanside_training.readers import read_results
from scanside_training.readers.images import WHITE
from scanside_training.readers.study import ReaderStudy

pytest.importorskip("starlette", reason="needs starlette: pip install 'scanside[server]'")
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from scanside_training.readers.server import ReaderServer

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# A machine that does much else takes its time; a failure is told apart by never coming.
PATIENCE_MS = 45_000
expect.set_options(timeout=PATIENCE_MS)

SIDES = form_of(
    mode="side-by-side",
    questions=[LIKERT, PREFERENCE, REMARK],
    instructions="Judge each image as you would before reporting it.",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that must not complain, and ask nobody else."""
    contexts, complaints = [], []

    def new(url: str, width: int = 1600) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 950})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        host = url.partition("/r/")[0]
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(host) or complaints.append(asked.url))
        page.goto(url)
        expect(page.locator("#place")).not_to_be_empty()
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def canvas(page: Page, pane: int = 0) -> npt.NDArray[np.uint8]:
    """Grey values of a pane's canvas ``(row, column)``."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    height, width, text = page.locator(f"canvas[data-pane='{pane}']").evaluate(
        """(c) => {
            const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const grey = new Uint8Array(c.width * c.height).map((_, i) => pixels[4 * i]);
            let text = '';
            for (let i = 0; i < grey.length; i += 8192) text += String.fromCharCode(...grey.subarray(i, i + 8192));
            return [c.height, c.width, btoa(text)];
        }"""
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)


def drawn(page: Page, shape: tuple[int, int], pane: int = 0) -> npt.NDArray[np.uint8]:
    """Grey values in the middle of each pixel of an image that fills its pane."""
    picture = canvas(page, pane)
    rows, columns = picture.shape
    scale = min(rows / shape[0], columns / shape[1])
    y, x = (
        n / 2 + (np.arange(size) + 0.5 - size / 2) * scale
        for n, size in zip(picture.shape, shape, strict=True)
    )
    sampled: npt.NDArray[np.uint8] = picture[np.ix_(y.astype(int), x.astype(int))]
    return sampled


def drag(page: Page, across: float, down: float, pane: int = 0) -> None:
    box = page.locator(f"canvas[data-pane='{pane}']").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y + down)
    page.mouse.up()


def group(page: Page, name: str) -> Any:
    return page.locator(f"fieldset[data-question='{name}']")


def start(study: ReaderStudy) -> tuple[subprocess.Popen[str], int]:
    """The command in a process of its own; gives its port."""
    command = [sys.executable, "-m", "scanside", "readers", "serve", str(study.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"127\.0\.0\.1:(\d+)/r/", line):
            return process, int(found[1])
    raise AssertionError("the server said no address")


@pytest.mark.slow
def test_answers_survive_a_killed_server(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    study = make_study(form_of(questions=[LIKERT, YES_NO]))
    process, port = start(study)
    address = f"http://127.0.0.1:{port}/r/{study.link('anna')}/"
    try:
        page = open_page(address)
        expect(page.locator("#place")).to_have_text("1 of 8")
        before = canvas(page)
        drag(page, -200, -120)  # what was grey is brighter
        expect(page.locator("#window")).to_contain_text("window 50 %, level 20 %")
        assert canvas(page).max() > before.max()
        group(page, "quality-0").get_by_label("good").check()
        expect(page.locator("#next")).to_be_disabled()
        group(page, "artefacts-0").get_by_label("No").check()
        expect(page.locator("#saved")).to_have_text("Saved")
        page.locator("#next").click()
        expect(page.locator("#place")).to_have_text("2 of 8")
        expect(page.locator("#window")).to_contain_text("window 100 %")
        group(page, "quality-0").get_by_label("poor").check()
        expect(page.locator("#saved")).to_have_text("1 to answer")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # An answer that is given meanwhile waits in the page.
    group(page, "artefacts-0").get_by_label("Yes").check()
    expect(page.get_by_role("alert")).to_contain_text("No connection")
    expect(page.locator("#saved")).to_have_text("Saving …")

    with ReaderServer(study, port=port):
        expect(page.locator("#saved")).to_have_text("Saved")
        expect(page.get_by_role("alert")).to_be_hidden()
        resumed = open_page(address)
        expect(resumed.locator("#place")).to_have_text("2 of 8")
        expect(group(resumed, "quality-0").get_by_label("poor")).to_be_checked()
        expect(group(resumed, "artefacts-0").get_by_label("Yes")).to_be_checked()
        resumed.locator("#next").click()
        expect(resumed.locator("#place")).to_have_text("3 of 8")
    result = read_results(study)
    first, second = study.trials("anna")[:2]
    assert [(one.method, one.question, one.value) for one in result.answers] == [
        (first.methods[0], "quality", 4),
        (first.methods[0], "artefacts", "no"),
        (second.methods[0], "quality", 2),
        (second.methods[0], "artefacts", "yes"),
    ]
    assert result.n_open == 0


def test_pixels_are_drawn_in_their_window(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    study = make_study(SIDES, size=(80, 100))
    with ReaderServer(study) as server:
        page = open_page(server.address("anna"))
        page.locator("#smooth").uncheck()
        trial = study.trials("anna")[0]
        for pane, name in enumerate(trial.methods):
            image = study.image(trial.case, name)[0]
            expected = np.round(255 * np.minimum(image / WHITE, 1))
            np.testing.assert_allclose(drawn(page, (80, 100), pane), expected, atol=1)
        drag(page, -200, 40)  # width a half, level up by a tenth
        expect(page.locator("#window")).to_contain_text("window 50 %, level 60 %")
        for pane, name in enumerate(trial.methods):  # both of them
            image = study.image(trial.case, name)[0]
            expected = np.round(255 * np.clip((image / WHITE - 0.35) / 0.5, 0, 1))
            np.testing.assert_allclose(drawn(page, (80, 100), pane), expected, atol=1)
        page.keyboard.press("r")
        expect(page.locator("#window")).to_contain_text("window 100 %, level 50 %")
        # Zoom about the pointer, in both panes alike.
        box = page.locator("canvas[data-pane='0']").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        page.mouse.wheel(0, -400)
        expect(page.locator("#window")).to_contain_text("zoom 2.7×")
        left, right = canvas(page, 0), canvas(page, 1)
        assert left.shape == right.shape
        assert (np.abs(left.astype(int) - right) > 1).mean() < 0.01
        page.mouse.down()
        page.keyboard.down("Shift")
        page.mouse.move(box["x"] + box["width"] / 4 + 60, box["y"] + box["height"] / 4)
        page.keyboard.up("Shift")
        page.mouse.up()
        np.testing.assert_array_equal(canvas(page, 0)[:, 60:], left[:, :-60])
        page.screenshot(path=tmp_path / "zoomed.png")


def test_a_study_by_keyboard(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    study = make_study(SIDES, n_cases=2, n_frames=5, size=(220, 260))
    with ReaderServer(study) as server:
        page = open_page(server.address("ben"))
        expect(page.locator("#frame-out")).to_have_text("1 of 5")
        first = canvas(page)
        page.keyboard.press("ArrowUp")
        expect(page.locator("#frame-out")).to_have_text("2 of 5")
        assert canvas(page).max() > first.max()
        page.keyboard.press("s")
        expect(page.locator("canvas[data-pane='1']")).to_be_hidden()
        page.keyboard.press("ArrowRight")
        expect(page.locator("canvas[data-pane='1']")).to_be_visible()
        expect(page.locator("canvas[data-pane='0']")).to_be_hidden()
        page.screenshot(path=tmp_path / "alone.png")
        page.keyboard.press("s")
        for digit in "453":  # left, right, and a preference for the right
            page.keyboard.press(digit)
        page.get_by_role("textbox", name="Remarks Left").fill("1 2 3, ringing")
        page.screenshot(path=tmp_path / "answered.png")
        page.locator("#next").click()
        expect(page.locator("#place")).to_have_text("2 of 2")
        for digit in "122":
            page.keyboard.press(digit)
        expect(page.locator("#saved")).to_have_text("Saved")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="All images are read")).to_be_visible()
        page.screenshot(path=tmp_path / "done.png")
    answers = read_results(study).answers
    first_trial = study.trials("ben")[0].methods
    assert [(one.question, one.method, one.value) for one in answers if one.trial == 0] == [
        ("quality", first_trial[0], 4),
        ("quality", first_trial[1], 5),
        ("better", "", first_trial[1]),
        ("remark", first_trial[0], "1 2 3, ringing"),
    ]
    assert [one.value for one in answers if one.trial == 1 and one.question == "better"] == ["same"]


def test_nothing_is_answered_before_its_images_are_there(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page]
) -> None:
    """Keys that come while the next images are on their way belong to no trial."""
    study = make_study(SIDES, n_cases=2)
    with ReaderServer(study) as server:
        page = open_page(server.address("ben"))
        expect(page.locator("#place")).to_have_text("1 of 2")
        held: list[Route] = []
        page.route("**/trials/1/images/*", lambda route: held.append(route))  # noqa: PLW0108 — no built-in
        for digit in "453":
            page.keyboard.press(digit)
        with page.expect_request("**/trials/1/images/*"):
            page.locator("#next").click()
        for digit in "122":
            page.keyboard.press(digit)
        expect(page.locator("#place")).to_have_text("1 of 2")
        assert len(held) == 2
        for route in held:
            route.continue_()
        expect(page.locator("#place")).to_have_text("2 of 2")
        expect(page.locator("#saved")).to_have_text("3 to answer")
    assert {one.trial for one in read_results(study).answers} <= {0}


def test_two_windows_of_one_reader(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page]
) -> None:
    study = make_study(form_of(questions=[LIKERT]))
    with ReaderServer(study) as server:
        one, other = (open_page(server.address("anna")) for _ in range(2))
        group(one, "quality-0").get_by_label("good").check()
        expect(one.locator("#saved")).to_have_text("Saved")
        group(other, "quality-0").get_by_label("fair").check()
        expect(other.locator("#saved")).to_have_text("Saved")
        # What is finished is what this window shows, or nothing is.
        one.locator("#next").click()
        expect(one.get_by_role("alert")).to_contain_text("answered in another window")
        expect(group(one, "quality-0").get_by_label("fair")).to_be_checked()
        one.locator("#next").click()
        expect(one.locator("#place")).to_have_text("2 of 8")
        group(other, "quality-0").get_by_label("useless").check()
        expect(other.get_by_role("alert")).to_contain_text("were finished")
        expect(other.locator("#place")).to_have_text("2 of 8")
    assert [one.value for one in read_results(study).answers] == [3]


def test_reference_beside_and_names_for_everything(
    make_study: Callable[..., ReaderStudy], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    study = make_study(form_of(reference="shown", questions=[LIKERT, YES_NO, REMARK]), n_frames=3)
    with ReaderServer(study) as server:
        page = open_page(server.address("anna"))
        expect(page.locator("figcaption")).to_have_text(["Image", "Reference"])
        expect(page.locator("fieldset")).to_have_count(3)
        expect(page.locator("canvas").nth(1)).to_have_attribute(
            "aria-label", re.compile("Reference, frame 1 of 3")
        )
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, input, textarea, canvas, progress, fieldset')]
                .filter((e) => e.checkVisibility())
                .filter((e) => ![e.getAttribute('aria-label'), e.labels?.[0]?.textContent, e.textContent]
                    .some((text) => text?.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert unnamed == []
        text = page.content()
        assert not [name for name in (*METHODS, *study.document.cases) if name in text]
        page.screenshot(path=tmp_path / "reference.png")
        narrow = open_page(server.address("ben"), width=600)
        assert narrow.evaluate("() => document.documentElement.scrollWidth") <= 600
