"""The page in headless Chromium, with a recording for a microphone; run on the server of small routes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("selenium", reason="tools/setup.sh --with-serve")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select, WebDriverWait

from s3router.data.audio import read_audio
from tests.server.conftest import AUDIO, serving
from tests.server.test_api import get, in_turn

pytestmark = [
    pytest.mark.usefixtures("upstream_in_place"),
    pytest.mark.skipif(
        not shutil.which("chromium") or not shutil.which("chromedriver"), reason="apt install chromium chromium-driver"
    ),
]

PATIENCE = 60  # seconds: other work may be under way on the machine


def browser(microphone: Path, width: int = 1280, dark: bool = False) -> WebDriver:
    """Headless Chromium, without a network but this machine's."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE)
    resize(driver, width)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    return driver


def resize(driver: WebDriver, width: int) -> None:
    """A screen of so many pixels; a window would not be narrower than 500."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Three utterances with pauses between them."""
    path = tmp_path_factory.mktemp("microphone") / "three.wav"
    path.write_bytes(in_turn(*AUDIO[:3]))
    soundfile.write(path, read_audio(path), 16000, subtype="PCM_16")  # all that Chromium's microphone takes
    return path


@pytest.fixture(scope="module")
def shared(recording) -> Iterator[WebDriver]:
    driver = browser(recording)
    yield driver
    driver.quit()


@pytest.fixture
def page(shared, server) -> WebDriver:
    """The page, fresh."""
    return opened(shared, server)


def opened(driver: WebDriver, url: str) -> WebDriver:
    driver.get(url)
    until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "#first option"))
    return driver


def until(driver: WebDriver, condition: Callable):
    return WebDriverWait(driver, PATIENCE, 0.1).until(lambda _: condition())


def one(driver: WebDriver, selector: str):
    return driver.find_element(By.CSS_SELECTOR, selector)


def texts(driver: WebDriver, selector: str) -> list[str]:
    return [element.text for element in driver.find_elements(By.CSS_SELECTOR, selector)]


def transcribed(driver: WebDriver) -> None:
    one(driver, "#go").click()
    until(driver, lambda: one(driver, "#status").text == "Done" or one(driver, "#problem").is_displayed())
    assert not one(driver, "#problem").is_displayed(), one(driver, "#problem").text


def complaints(driver: WebDriver) -> list[str]:
    """Errors in the browser's console, such as something that its policy kept it from fetching."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_file_through_auto_and_a_route_beside_it(page, recording, client):
    assert not one(page, "#go").is_enabled()
    one(page, "#file").send_keys(str(recording))
    until(page, lambda: one(page, "#go").is_enabled())
    assert one(page, "#status").text == "three.wav is ready"
    Select(one(page, "#second")).select_by_value("it")
    transcribed(page)
    by_auto, by_it = page.find_elements(By.CSS_SELECTOR, "#results section")
    expected = client.audio.transcriptions.create(
        file=recording, model="it", response_format="verbose_json", chunking_strategy="auto"
    )
    assert by_it.find_elements(By.CSS_SELECTOR, "summary") == []  # there was no choice
    said = [element.text for element in by_it.find_elements(By.CSS_SELECTOR, ".said")]
    assert len(said) == 3
    assert said == [f"it {segment.text or 'nothing was heard'}" for segment in expected.segments]
    scores = by_auto.find_elements(By.CSS_SELECTOR, ".overall dt")
    assert {element.text for element in scores} == {"es", "fr.CA", "it", "ru"}
    widths = [bar.rect["width"] for bar in by_auto.find_elements(By.CSS_SELECTOR, ".overall .bar")]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 50
    by_auto.find_element(By.CSS_SELECTOR, "summary").click()
    piece = by_auto.find_elements(By.CSS_SELECTOR, "li .scores")[0]
    assert piece.find_element(By.CSS_SELECTOR, ".best").text == by_auto.find_element(By.CSS_SELECTOR, ".route").text
    figures = dict(zip(*(by_it.find_elements(By.CSS_SELECTOR, f".figures {tag}") for tag in ("dt", "dd")), strict=True))
    figures = {name.text: value.text for name, value in figures.items()}
    assert set(figures) == {"computing", "waiting", "decoding", "in all", "pack on disk", "pack in memory"}
    assert all(value.endswith((" ms", " MB")) for value in figures.values())
    assert figures["pack on disk"] != "0.00 MB"
    assert one(page, "#about").text.startswith("tiny, 4 routes, ")
    by_it.find_elements(By.CSS_SELECTOR, ".time")[1].click()
    until(page, lambda: page.execute_script("return document.getElementById('player').currentTime") > 1)
    assert complaints(page) == []


def test_candidates_of_auto(page, recording):
    one(page, "#file").send_keys(str(recording))
    for name in ("fr.CA", "ru"):
        one(page, f"#candidates input[value='{name}']").click()
    transcribed(page)
    assert set(texts(page, ".overall dt")) == {"es", "it"}
    Select(one(page, "#first")).select_by_value("ru")
    assert not one(page, "#among").is_displayed()


def test_the_microphone(page):
    one(page, "#record").click()
    until(page, lambda: one(page, "#record").text.startswith("Stop (0:02"))
    one(page, "#record").click()
    until(page, lambda: one(page, "#go").is_enabled())
    assert one(page, "#record").text == "Record"
    assert one(page, "#name").text.startswith("recording.webm, ")
    Select(one(page, "#first")).select_by_value("it")
    transcribed(page)
    (title,) = texts(page, "#results .title .dim")
    assert title.startswith("it, 0:0")
    assert complaints(page) == []


def test_a_wrong_file_is_said_and_can_be_replaced(page, recording, tmp_path):
    (tmp_path / "<b>notes.wav").write_text("no audio " * 100)
    one(page, "#file").send_keys(str(tmp_path / "<b>notes.wav"))
    one(page, "#go").click()
    until(page, lambda: one(page, "#problem").is_displayed())
    assert "not audio that can be decoded" in one(page, "#problem").text
    one(page, "#file").send_keys(str(recording))
    assert not one(page, "#problem").is_displayed()
    transcribed(page)


def test_keyboard_alone(page, recording):
    """Every control in the order of reading; a transcription without a mouse."""
    one(page, "#file").send_keys(str(recording))
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    order = []
    for _ in range(16):
        ActionChains(page).send_keys(Keys.TAB).perform()
        focused = page.switch_to.active_element
        order.append(focused.get_attribute("id") or focused.get_attribute("value"))
        if order[-1] == "go":
            break
    wanted = ["file", "record", "player", "first", "second", "es", "fr.CA", "it", "ru", "pauses", "go"]
    assert [name for name in dict.fromkeys(order) if name in wanted] == wanted
    ActionChains(page).send_keys(Keys.ENTER).perform()
    until(page, lambda: one(page, "#status").text == "Done")


def test_names_for_screen_readers(page, recording):
    one(page, "#file").send_keys(str(recording))
    transcribed(page)
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "textbox", "combobox", "checkbox", "region"}
    nodes = [node for node in tree if node.get("role", {}).get("value") in roles and not node.get("ignored")]
    assert len(nodes) > 8
    assert [node for node in nodes if not node.get("name", {}).get("value")] == []
    names = {node["name"]["value"] for node in nodes}
    assert {"Route", "Beside it", "Record", "Transcribe", "Transcript by auto", "Choose a file"} <= names
    assert one(page, "#status").get_attribute("role") == "status"


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(server, recording, width, page):
    resize(page, width)
    one(page, "#file").send_keys(str(recording))
    Select(one(page, "#second")).select_by_value("ru")
    transcribed(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = [card.rect for card in page.find_elements(By.CSS_SELECTOR, "#results section")]
    assert (boxes[0]["y"] == boxes[1]["y"]) == (width > 600)
    assert contrasts(page) == []


def contrasts(driver: WebDriver) -> list[str]:
    """Texts that stand out too little from what is behind them (WCAG 2.1, 4.5 to 1)."""
    return driver.execute_script(
        """
        const parts = (color) => color.match(/[\\d.]+/g).map(Number);
        const light = (color) => parts(color).slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (node) => {
          for (; node; node = node.parentElement) {
            const color = parts(getComputedStyle(node).backgroundColor);
            if (color.length < 4 || color[3] === 1) return getComputedStyle(node).backgroundColor;
          }
          return "rgb(255, 255, 255)";
        };
        return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.disabled &&
          [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())).filter((node) => {
            const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
          }).map((node) => node.outerHTML);
        """
    )


def test_dark(server, recording):
    driver = browser(recording, 390, dark=True)
    try:
        opened(driver, server)
        one(driver, "#file").send_keys(str(recording))
        transcribed(driver)
        assert contrasts(driver) == []
        color = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert sum(int(part) for part in color[4:-1].split(",")) < 150
    finally:
        driver.quit()


def test_a_key_is_asked_for(shared, packs, recording):
    with serving(packs, key="secret") as (url, _):
        shared.get(url)
        until(shared, lambda: one(shared, "#problem").is_displayed())
        assert "a key is needed" in one(shared, "#problem").text
        one(shared, "#key").send_keys("secret" + Keys.TAB)
        until(shared, lambda: not one(shared, "#problem").is_displayed())
        one(shared, "#file").send_keys(str(recording))
        transcribed(shared)


def test_the_analysis_is_linked_where_there_is_one(shared, page, packs, tmp_path):
    assert not one(page, "#analysis").is_displayed()
    (tmp_path / "index.html").write_text("<h1>Masks</h1>")
    with serving(packs, analysis=tmp_path) as (url, _):
        opened(shared, url)
        one(shared, "#analysis").click()
        until(shared, lambda: one(shared, "h1").text == "Masks")


def test_the_page_needs_nothing_else(server):
    status, body = get(server)
    assert status == 200
    body = body.replace(b"http://www.w3.org/2000/svg", b"")  # a name, which nobody fetches
    assert [word for word in (b"src=", b"@import", b"url(", b"http://", b"https://") if word in body] == []
