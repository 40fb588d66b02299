"""Reports from files alone: a page for the browser, a card in Markdown, a card for the terminal.

Nothing here needs the model: input is a score card and, for the token explorer, its trace. Imports no torch.
"""

from exitbench.report.markdown import markdown_card
from exitbench.report.page import write_report
from exitbench.report.result import Result
from exitbench.report.terminal import terminal_card

__all__ = ["Result", "markdown_card", "terminal_card", "write_report"]
