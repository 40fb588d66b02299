"""Cards and traces to report on, some of them hostile."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from exitbench.replay.assemble import ReplayOptions, replay
from exitbench.replay.result import Replay
from exitbench.report import Result
from exitbench.score import ScoreCard, score
from exitbench.trace.table import Trace

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
"""Text that runs if it is ever parsed as markup."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)
"""Of the browser."""

CATEGORIES = ("chat", "summarise", "translate", "qa", "maths", "code")
WORDS = [
    *(" the", " of", " and", " model", " a", " layer", "\n", " is", ".", ",", " token", " depth", "1", "2"),
    *(" = ", " for", " early", " exit", " we", " can", "ing", "ly", " answer", " question", "\n\n", " in"),
    *(" to", " that", " it", "<|im_end|>"),
]


def build_result(
    make_trace: Callable[..., Trace],
    make_top1: Callable[..., np.ndarray],
    *,
    num_prompts: int = 24,
    tokens_each: int = 16,
    num_blocks: int = 12,
    vocabulary: int = 30,
    draws: int = 100,
    seed: int = 0,
    **options: object,
) -> Result:
    """A plausible result: most tokens are settled late, some categories earlier than others."""
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(num_prompts), tokens_each)
    share = rng.beta(5, 0.8 + 0.08 * (prompts % len(CATEGORIES)))
    depths = np.ceil(share * num_blocks).astype(int)
    top1 = make_top1(depths, num_blocks, vocabulary=vocabulary, seed=seed)
    at = np.arange(num_blocks + 1) / num_blocks
    settled = np.arange(num_blocks + 1) >= depths[:, None]
    unsettled = 0.03 + 0.8 * at * rng.beta(1.5, 1.5, size=(len(depths), 1))
    prob = np.where(settled, 1 - (1 - unsettled) * rng.beta(0.4, 1.0, size=top1.shape), unsettled)
    trace = make_trace(
        top1,
        prob=prob,
        prompts=prompts,
        **{
            "categories": [CATEGORIES[index % len(CATEGORIES)] for index in range(num_prompts)],
            "token_strings": {index: WORDS[index % len(WORDS)] for index in range(vocabulary)},
            "model_name": "example-135m-instruct",
            "workload_name": "mini",
            "seed": seed,
        }
        | options,
    )
    return Result(score(trace, draws=draws), trace)


def replay_of(result: Result, **options: Any) -> Replay:
    """A quick replay of every policy."""
    assert result.trace is not None
    return replay(result.trace, options=ReplayOptions(draws=100, **options))


@pytest.fixture(scope="session")
def result(make_trace, make_top1) -> Result:
    """24 prompts in 6 categories, 16 tokens each, 12 blocks."""
    return build_result(make_trace, make_top1)


@pytest.fixture(scope="session")
def card(result) -> ScoreCard:
    return result.card


@pytest.fixture(scope="session")
def fast(make_trace, make_top1) -> Result:
    """The same tokens as `result`, traced with --fast."""
    return build_result(make_trace, make_top1, fast=True)


@pytest.fixture(scope="session")
def uncounted(make_trace, make_top1) -> Result:
    """Traced before it was counted what skipped blocks owe."""
    return build_result(make_trace, make_top1, completed=False)


@pytest.fixture(scope="session")
def replayed(result) -> Replay:
    """Every policy on `result`."""
    return replay_of(result)


@pytest.fixture(scope="session")
def make_replay() -> Callable[..., Replay]:
    """The maker of quick replays, see `replay_of`."""
    return replay_of


@pytest.fixture(scope="session")
def with_replay(result, replayed) -> Result:
    """`result` with its policies."""
    return Result(result.card, result.trace, replayed)


@pytest.fixture(scope="session")
def hostile(make_trace, make_top1) -> Result:
    """Every name and text that comes from outside is an attack on some medium."""
    ansi, rtl, rich = "\x1b[31mred\x1b]0;title\x07", "\u202etxet", "[red]x[/red]"
    return build_result(
        make_trace,
        make_top1,
        num_prompts=12,
        model_name=f"{HOSTILE}{ansi}{rich}{rtl}|`*_",
        workload_name=f"{HOSTILE}\n# heading\n{rtl}",
        categories=[HOSTILE, rich] * 6,
        prompt_texts=[f"{HOSTILE}\u2028 {rtl} {ansi}"] * 12,
        token_strings={
            0: HOSTILE,
            1: "\ufffd",
            2: rtl,
            3: ansi,
            4: "",
            5: "\ud800",
            6: " \u05e9\u05dc\u05d5\u05dd",
        },
        failed=[11],
    )


@pytest.fixture(scope="session")
def build(make_trace, make_top1) -> Callable[..., Result]:
    """`build_result`, for results of other sizes."""
    return lambda **options: build_result(make_trace, make_top1, **options)


def executable(name):
    path = shutil.which(name)
    assert path, f"{name} is not on PATH: install Debian's packages chromium and chromium-driver"
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = executable("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def open_page(browser):
    """Open a page from disk and wait until its charts are drawn."""

    def opened(path, *, dark=False):
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        browser.get_log("browser")
        browser.get(path.as_uri())
        WebDriverWait(browser, 30).until(
            lambda driver: driver.execute_script("return document.documentElement.dataset.charts") == "drawn"
        )
        return browser

    return opened


@pytest.fixture
def errors(browser):
    """Reads what the page has complained about since it was opened."""
    return lambda: [e["message"] for e in browser.get_log("browser") if e["level"] in {"SEVERE", "WARNING"}]
