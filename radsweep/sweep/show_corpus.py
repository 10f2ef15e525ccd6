"""How the check of a corpus looks on a terminal."""

from rich import box
from rich.markup import escape
from rich.table import Table

from radsweep.corpus.check import CheckReport


def check_table(report: CheckReport) -> Table:
    """One row a promise: what was looked at, how many fail, which (by pseudonym)."""
    verdict = "[green]all kept[/green]" if report.passed else "[red]not all kept[/red]"
    table = Table(
        title=f"corpus {report.corpus}: {report.images:,} images of {report.patients:,} patients, "
        f"promises {verdict}",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("promise", overflow="fold")
    table.add_column("checked", justify="right", no_wrap=True)
    table.add_column("failures", justify="right", no_wrap=True)
    for finding in report.findings:
        style = "red" if finding.failures else "green"
        said = [finding.claim, *finding.examples]
        if finding.failures > len(finding.examples) > 0:
            said.append(f"and {finding.failures - len(finding.examples):,} more")
        text = f"[bold]{finding.name}[/bold]: {escape(chr(10).join(said))}"
        if finding.note:
            text += f"\n[dim]{escape(finding.note)}[/dim]"
        table.add_row(text, f"{finding.checked:,}", f"[{style}]{finding.failures:,}[/{style}]")
    return table
