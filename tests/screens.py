"""Screens of other sizes than a desk's."""

from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["assert_fits_a_phone"]


def assert_fits_a_phone(page):
    """The page, shown in this browser, need not be scrolled sideways on a phone."""
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        WebDriverWait(page, 10).until(
            lambda driver: driver.execute_script("return document.documentElement.scrollWidth") <= 390
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
