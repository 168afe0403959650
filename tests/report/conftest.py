"""A whole page with probes and microscope, made once, and a browser to open it with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from statewise.report.figures import catalogue
from statewise.report.figures.figure import Plate
from statewise.report.inputs import Material, gather
from statewise.report.page.html import page
from statewise.results.summary import summarise
from tests import synthetic_run as synthetic

SCRIPT = "<script>window.evil=1</script>"
PLANTED = (
    "</script>",
    SCRIPT,
    '"><img src=x onerror=window.evil=2>',
    "\u202e",
    "\x00",
    ' "',
    "&lt;",
)


@dataclass(frozen=True)
class Whole:
    """A run that has everything, and what its page is made of."""

    run: Path
    material: Material
    plates: tuple[Plate, ...]
    html: str


def make_whole(folder: Path, **options: Any) -> tuple[Path, Material]:
    """A synthetic run with probes and microscope, and what its page is made of."""
    run = synthetic.make_run(folder, probes=True, nulls=True, **options)
    results = summarise(run)
    results = replace(results, matched=synthetic.synthetic_probes.matched(results))
    return run, gather(run, results)


@pytest.fixture(scope="session", name="synthetic")
def _synthetic() -> ModuleType:
    return synthetic


@pytest.fixture(scope="session")
def whole_run() -> Callable[..., tuple[Path, Material]]:
    return make_whole


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    responses = dict.fromkeys(synthetic.PLANTED, f"{SCRIPT}\u202eabc\x00</script>")
    run, material = make_whole(
        tmp_path_factory.mktemp("whole"),
        items=60,
        microscope=4,
        texts=PLANTED,
        responses=responses,
    )
    plates = catalogue.plates(material)
    html = page(material, plates).html
    (run / "report.html").write_text(html, encoding="utf-8")
    return Whole(run, material, plates, html)


CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium with an empty profile; skips where it or selenium is not there."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed (apt: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
