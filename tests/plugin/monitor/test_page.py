"""The page in a real browser, played a session; what it draws is read from its canvas.

Screenshots lie in pytest's folder for temporary files (``--basetemp=FOLDER`` says where), to be looked at.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.simulate import CoilConfig, GeometryConfig, PhantomConfig, SamplingConfig, ScanConfig, simulate
from scanside_gadgetron.pool import events

pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

Show = Callable[..., Any]

WIDTH, HEIGHT = 1600, 1000

# A machine that does much else takes its time; a failure is told apart by never coming.
PATIENCE_MS = 45_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that must not complain."""
    contexts, complaints = [], []

    def new(url: str, scheme: Any = "dark", width: int = WIDTH) -> Page:
        context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on("request", lambda asked: asked.url.startswith(url) or complaints.append(asked.url))
        page.goto(url)
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def canvas(page: Page) -> npt.NDArray[np.uint8]:
    """Grey values of the viewer's canvas ``(row, column)``."""
    height, width, text = page.evaluate(
        """() => {
            const c = document.getElementById('image');
            const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const grey = new Uint8Array(c.width * c.height).map((_, i) => pixels[4 * i]);
            let text = '';
            for (let i = 0; i < grey.length; i += 8192) text += String.fromCharCode(...grey.subarray(i, i + 8192));
            return [c.height, c.width, btoa(text)];
        }"""
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)


def drawn(
    page: Page, n_y: int, n_x: int, pixel_mm: tuple[float, float] = (1.0, 1.0)
) -> npt.NDArray[np.uint8]:
    """Grey values in the middle of each pixel of an image that fills the canvas in its right proportions."""
    picture = canvas(page)
    rows, columns = picture.shape
    scale = min(rows / (n_y * pixel_mm[0]), columns / (n_x * pixel_mm[1]))
    y = rows / 2 + (np.arange(n_y) + 0.5 - n_y / 2) * scale * pixel_mm[0]
    x = columns / 2 + (np.arange(n_x) + 0.5 - n_x / 2) * scale * pixel_mm[1]
    sampled: npt.NDArray[np.uint8] = picture[np.ix_(y.astype(int), x.astype(int))]
    return sampled


def shown_image(page: Page, text: str) -> None:
    expect(page.locator("#image")).to_have_attribute("aria-label", re.compile(re.escape(text)))


@pytest.fixture(scope="module")
def scan() -> Any:
    """Three oblique slices of a brain."""
    return simulate(
        ScanConfig(
            phantom=PhantomConfig(weighting="t2", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=6),
            sampling=SamplingConfig(acceleration=(3, 1), acs=(24, 0)),
            geometry=GeometryConfig(
                matrix=(160, 140, 1),
                fov_mm=(240.0, 210.0, 3.0),
                n_slices=3,
                slice_gap_mm=9.0,
                rotation_deg=(-14.0, 5.0, 4.0),
            ),
        )
    )


def test_whole_session(show: Show, story: Any, open_page: Any, scan: Any, tmp_path: Path) -> None:
    shown = show()
    tell, truth = shown.pool.tell, scan.truth
    page = open_page(shown.monitor.url)
    expect(page.get_by_role("heading", name="No session yet")).to_be_visible()
    tell(*story.worker_ready(0), *story.opened("s1", n_coils=6, acceleration=[3, 1]))
    expect(page.get_by_role("heading", name="t2_tse_tra")).to_be_visible()
    expect(page.locator("#state")).to_have_text("running")

    sampling = np.zeros((1, 140), np.uint8)
    sampling[0, 2::3], sampling[0, 58:82] = 1, 3
    for what, array in (("sampling", sampling), ("noise", truth.covariance), ("coils", truth.maps[1])):
        file = shown.put("s1", f"{what}.npy", array)
        tell(events.Observation(time=story.NOW + 2, session="s1", what=what, file=file))
    for at, stage, ms in (
        (0.0, "noise", 30),
        (0.1, "oversampling", 8),
        (0.2, "accumulate", 4),
        (0.6, "engine", 240),
    ):
        tell(story.stage(stage, at, ms, 20))
    images = []
    for i in range(3):
        affine = truth.affines[i]
        pixels = np.abs(truth.image(i)).astype(np.float32)
        images.append(pixels)
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        facts = {
            "position": (affine @ [80, 70, 0, 1])[:3].tolist(),
            **{f"{name}_dir": columns[:, k].tolist() for k, name in enumerate(("read", "phase", "slice"))},
            "ScansideEngine": ["student", "1.0.0"],
            "ScansideBackend": ["openvino", "bf16", "256×256"],
            "ScansideVersion": ["0.1.0"],
        }
        file = shown.put("s1", f"{i}.npy", pixels)
        tell(
            story.image(i, file, facts=facts),
            story.stage("engine", 1 + i, 180),
            story.stage("finish", 1.2 + i, 3),
        )
        tell(story.progress(50 * (i + 1), i + 1))
        shown_image(page, f"Image {i}")
    # The newest image is followed; it is drawn as its pixels are, in its window.
    high = float(
        page.evaluate("() => document.getElementById('window').textContent.match(/window (\\S+)/)[1]")
    )
    expected = np.clip(np.round(255 * images[2][0] / high), 0, 255)
    np.testing.assert_allclose(drawn(page, 140, 160, (1.5, 1.5)), expected, atol=2)
    # In this orientation columns run to the patient's left, rows to the back.
    assert page.locator(".edge.left").text_content() == "R"
    assert page.locator(".edge.top").text_content()[:1] == "A"
    for what in ("sampling", "noise", "coils"):
        expect(page.locator(f"#{what}")).to_be_visible()
    expect(page.locator("#sampling figcaption p")).to_contain_text("R = ")
    expect(page.get_by_role("row", name="engine")).to_contain_text("780 ms")
    expect(page.get_by_role("group", name="Slices").get_by_role("button")).to_have_count(3)
    expect(page.locator("#software")).to_contain_text("student 1.0.0, openvino, bf16")
    expect(page.locator("#coils figcaption p")).to_contain_text("magnitude from 0 to ")
    expect(page.locator("#figures")).to_contain_text("150 of about 200")
    expect(page.locator("#progress")).to_be_visible()
    page.wait_for_timeout(600)  # small pictures come a little later
    page.screenshot(path=tmp_path / "running.png", full_page=True)

    tell(story.ended(n_readouts=200, n_images=3))
    expect(page.locator("#state")).to_have_text("done")
    light = open_page(shown.monitor.url, "light")
    expect(light.locator("#state")).to_have_text("done")
    shown_image(light, "Image 2")
    expect(light.locator("#coils")).to_be_visible()
    light.screenshot(path=tmp_path / "light.png", full_page=True)


@pytest.fixture
def series(show: Show, story: Any, open_page: Any) -> tuple[Any, Page]:
    """Two slices of three frames whose pixels say which they are; pixels are twice as high as wide."""
    shown = show()
    shown.pool.tell(*story.opened())
    index = 0
    for frame in range(3):
        for slice_ in range(2):
            pixels = np.zeros((1, 20, 40), np.float32)
            pixels[0, :5, :10] = 100
            pixels[0, 10, 20] = 10 + 20 * frame + 10 * slice_
            facts = {"slice": slice_, "repetition": frame, "field_of_view": [200.0, 200.0, 5.0]}
            file = shown.put("s1", f"{index}.npy", pixels)
            shown.pool.tell(story.image(index, file, facts=facts))
            index += 1
    page = open_page(shown.monitor.url)
    shown_image(page, "Image 5")
    return shown, page


def test_orientation_and_proportions(series: Any) -> None:
    _, page = series
    picture = drawn(page, 20, 40, (10.0, 5.0))
    assert picture[:5, :10].min() == 255
    assert picture[5:, :].max() < 255
    assert picture[0, 10:].max() == 0
    assert picture[10, 20] == round(255 * 0.6)
    letters = [page.locator(f".edge.{side}").text_content() for side in ("left", "right", "top", "bottom")]
    assert letters == ["R", "L", "A", "P"]
    # Square on the screen, as it is in the patient: black bars at the sides only.
    rows, columns = canvas(page).shape
    lit = np.nonzero(canvas(page) == 255)
    assert lit[0].min() == 0
    assert lit[1].min() == pytest.approx((columns - rows) / 2, abs=2)


def test_slices_and_frames_by_keys_and_sliders(series: Any) -> None:
    _, page = series
    image = page.locator("#image")
    image.focus()
    page.keyboard.press("ArrowDown")
    shown_image(page, "Image 4")
    assert not page.locator("#follow").is_checked()
    page.keyboard.press("ArrowLeft")
    shown_image(page, "Image 2")
    assert drawn(page, 20, 40, (10.0, 5.0))[10, 20] == pytest.approx(255 * 0.3, abs=1)
    page.get_by_role("slider", name="Frame").fill("0")
    shown_image(page, "Image 0")
    page.get_by_role("slider", name="Slice").fill("1")
    shown_image(page, "Image 1")
    image.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#frame-out")).to_have_text("3 of 3")


def test_picture_stays_where_it_is_while_new_ones_come(series: Any, story: Any) -> None:
    shown, page = series
    page.locator("#image").focus()
    page.keyboard.press("ArrowLeft")
    shown_image(page, "Image 3")
    file = shown.put("s1", "6.npy", np.ones((1, 20, 40), np.float32))
    shown.pool.tell(story.image(6, file, facts={"slice": 1, "repetition": 3}))
    expect(page.locator("#frame-out")).to_have_text("2 of 4")
    shown_image(page, "Image 3")
    page.get_by_label("follow new images").check()
    shown_image(page, "Image 6")


def test_slice_is_chosen_from_small_pictures(series: Any) -> None:
    _, page = series
    small = page.get_by_role("group", name="Slices").get_by_role("button")
    expect(small).to_have_count(2)
    expect(small.nth(1)).to_have_attribute("aria-current", "true")
    small.nth(0).click()
    shown_image(page, "Image 4")
    expect(small.nth(0)).to_have_attribute("aria-current", "true")
    # Square in the patient, bright in the corner of low indices.
    drawn_small = """(canvas) => {
        const grey = (x, y) => canvas.getContext('2d').getImageData(x, y, 1, 1).data[0];
        return [canvas.width, canvas.height, grey(3, 3), grey(90, 3), grey(3, 90)];
    }"""
    assert small.nth(0).locator("canvas").evaluate(drawn_small) == [96, 96, 255, 0, 0]


def test_window_and_level(series: Any) -> None:
    _, page = series
    box = page.locator("#image").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 200, y)  # half the window's width away
    page.mouse.up()
    assert page.locator("#window").text_content().startswith("window 50\nlevel 50")
    assert drawn(page, 20, 40, (10.0, 5.0))[10, 20] == pytest.approx(255 * (60 - 25) / 50, abs=1)
    page.mouse.down()
    page.mouse.move(x - 200, y + 100)  # and up by a quarter of the range
    page.mouse.up()
    assert page.locator("#window").text_content().startswith("window 50\nlevel 75")
    assert drawn(page, 20, 40, (10.0, 5.0))[10, 20] == pytest.approx(255 * (60 - 50) / 50, abs=1)
    page.locator("#image").dblclick()
    assert page.locator("#window").text_content().startswith("window 100\nlevel 50")


def test_wheel_zooms_about_the_pointer(series: Any) -> None:
    _, page = series
    box = page.locator("#image").bounding_box()
    before = canvas(page)
    # On the edge between the bright block and the dark: it stays there.
    rows, columns = np.nonzero(before == 255)
    x, y = int(columns.max()), int(rows.max())
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.wheel(0, -400)
    after = canvas(page)
    assert float(page.locator("#window").text_content().rpartition("zoom ")[2][:-1]) == pytest.approx(
        2.7, abs=0.05
    )
    assert (after[: y - 3, : x - 3] == 255).all()
    assert after[y + 4, x + 4] < 255
    page.keyboard.press("Tab")
    page.locator("#image").focus()
    page.keyboard.press("0")
    np.testing.assert_array_equal(canvas(page), before)


def test_value_and_place_under_the_pointer(series: Any) -> None:
    _, page = series
    box = page.locator("#image").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2 + 2)
    # The voxel in the middle, N // 2, lies at the header's position.
    assert page.locator("#probe").text_content() == "60\nx 20, y 10\nL 0.0, P 0.0, H 10.0 mm"


def test_what_needs_attention_is_in_plain_sight(
    show: Show, story: Any, open_page: Any, tmp_path: Path
) -> None:
    shown = show()
    shown.pool.reason = "no worker has its engines warm yet"
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    pixels = (np.hypot(1.2 * x, y) < 0.8) * (1 + 0.3 * np.cos(9 * x)) + 0.03 * rng.standard_normal((96, 96))
    shown.pool.tell(*story.opened("s1"))
    file = shown.put("s1", "0.npy", np.abs(pixels[None]).astype(np.float32))
    reason = "size: k-space of 300 × 310 is none of the sizes that 'student' was prepared for"
    facts = {
        "ScansideIncomplete": ["12 of 140 lines are missing"],
        "ScansidePipeline": ["student"],
        "ScansideCheck": ["worse", "-1.20 dB", "sense", "8 unseen lines"],
    }
    shown.pool.tell(
        story.image(0, file, fallback=reason, facts=facts),
        events.Warned(time=story.NOW, session="s1", text="<b>no</b> noise readouts: nothing is whitened"),
        story.ended(outcome="failed", error="stage 'grappa': too few calibration lines", reported=True),
        *story.opened("s2", protocol="cine_sax", start=story.NOW - 300),
        story.ended("s2"),
        *story.opened("s3", protocol="localizer", start=story.NOW - 600)[:2],
        story.ended("s3", outcome="lost", error="the host went away"),
        *story.opened("s4", start=story.NOW - 900)[:1],
        events.SessionRefused(time=1, session="s9", peer="127.0.0.1:1", reason="queue-full"),
    )
    page = open_page(shown.monitor.url)
    expect(page.locator("#state")).to_have_text("failed")
    alerts = page.get_by_role("list", name="What needs attention")
    expect(alerts).to_contain_text("too few calibration lines. The scanner was told.")
    expect(alerts).to_contain_text("300 × 310")
    expect(alerts).to_contain_text("<b>no</b> noise readouts")
    expect(page.locator("#made-by")).to_contain_text("fallback: size")
    expect(page.locator("#made-by")).to_contain_text("incomplete data")
    expect(page.locator("#software")).to_contain_text("last image bythe classical fallback")
    expect(page.locator("#software")).to_contain_text("worse, -1.20 dB against sense on 8 unseen lines")
    expect(page.locator("#pool")).to_contain_text("no worker has its engines warm yet")
    expect(page.locator("#refused")).to_contain_text("1 (queue full)")
    page.screenshot(path=tmp_path / "attention.png", full_page=True)
    # By keyboard to another session; the choice stays.
    page.get_by_role("button", name="cine_sax").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("cine_sax")
    expect(page.locator("#wait")).to_have_text("No image")
    assert page.evaluate("() => document.activeElement.textContent").startswith("cine_sax")
    assert not page.get_by_label("show the newest").is_checked()
    narrow = open_page(shown.monitor.url, width=600)
    expect(narrow.locator("#state")).to_have_text("failed")
    assert narrow.evaluate("() => document.documentElement.scrollWidth") <= 600


def test_server_that_goes_away_is_said(show: Show, story: Any, browser: Browser) -> None:
    shown = show()
    page = browser.new_page()
    page.goto(shown.monitor.url)
    expect(page.locator("#line")).to_be_hidden()
    shown.monitor.stop()
    expect(page.get_by_role("alert")).to_contain_text("No connection")
    page.close()


def test_everything_has_a_name(series: Any) -> None:
    _, page = series
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, progress')]
            .filter((e) => e.checkVisibility() && e.getAttribute('aria-hidden') !== 'true')
            .filter((e) => ![e.getAttribute('aria-label'), e.labels?.[0]?.textContent, e.textContent]
                .some((text) => text?.trim()))
            .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
