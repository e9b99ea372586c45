"""Reports in a real browser, freshly loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NEWEST = "document.documentElement.dataset.drawn"


def opened(
    browser: webdriver.Chrome, path: Path, *, width: int = 1280, dark: bool = False
) -> webdriver.Chrome:
    """The page, freshly loaded and fully drawn, in a window of this width."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 500})
    # Moving pages cannot be clicked: this reader prefers that nothing moves.
    prefer(browser, color_scheme="dark" if dark else "light", reduced_motion="reduce")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    wait_for_dress(browser, "dark" if dark else "light")
    return browser


def prefer(browser: webdriver.Chrome, **preferences: str) -> None:
    features = [
        {"name": f"prefers-{name.replace('_', '-')}", "value": value}
        for name, value in preferences.items()
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait_for_dress(browser: webdriver.Chrome, dress: str) -> None:
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {NEWEST}") == dress)


def script(browser: webdriver.Chrome, code: str) -> Any:
    return browser.execute_script(f"return {code}")  # type: ignore[no-untyped-call]
