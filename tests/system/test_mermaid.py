"""Charts in comments, drawn by Mermaid itself in a browser: what forges do with them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.reports.charts import Chart, mermaid

from ..unit.reports.parsed import parse

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

VERSIONS = ("10.9.3", "11.4.1")  # of Mermaid, as older and newer forges have it
CHARTS = {
    "plain": Chart("train/loss", "step", {"": [(float(n), 1 / (n + 1)) for n in range(200)]}),
    "two": Chart("val_acc", "epoch", {"j-1": [(0.0, 0.1), (9.0, 0.9)], "j-2": [(0.0, 0.3), (5.0, 0.5), (9.0, 0.6)]}),
    "small": Chart("lr", "step", {"": [(0.0, 3e-9), (1.0, 1e-9)]}),
    "large": Chart("flops", "step", {"": [(0.0, 3e25), (1e12, 1e25)]}),
    "flat": Chart("a", "b", {"": [(0.0, 0.0), (1.0, 0.0)]}),
    "odd": Chart('%%{init: {"theme": "x"}}%% "a"; <b> #1 `c` [d] 漢', "step (k) -->", {"": [(0.0, -1.0), (1.0, 1.0)]}),
    "empty": Chart("", "", {"": [(0.0, -1.0), (1.0, 1.0)]}),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_chart_is_drawn(tmp_path: Path, version: str) -> None:
    if not (shutil.which("npm") and shutil.which("chromium")):
        pytest.skip("needs npm and chromium")
    subprocess.run(["npm", "install", "--silent", f"mermaid@{version}"], cwd=tmp_path, check=True, timeout=300)
    drawn = _drawn(tmp_path, {name: parse(mermaid(chart)).fences[0][1] for name, chart in CHARTS.items()})
    assert {name: told for name, told in drawn.items() if not told["lines"]} == {}
    assert drawn["two"]["lines"] == 2
    assert drawn["plain"]["text"].startswith("train/loss")


def _drawn(folder: Path, texts: dict[str, str]) -> dict[str, dict[str, object]]:
    """By name: how many lines there are in the picture and its text, or Mermaid's own words on what it cannot read."""
    page = f"""<!doctype html><meta charset="utf-8"><pre id="told"></pre>
<script src="node_modules/mermaid/dist/mermaid.min.js"></script><script>
const texts = {json.dumps(texts).replace("</", "<" + chr(92) + "/")}, told = {{}};
mermaid.initialize({{startOnLoad: false}});
(async () => {{
  for (const [name, text] of Object.entries(texts)) {{
    try {{
      const {{svg}} = await mermaid.render("chart-" + name, text);
      const box = document.createElement("div"); box.innerHTML = svg;
      const lines = [...box.querySelectorAll("[class^=line-plot] path")].filter(one => one.getAttribute("d"));
      told[name] = {{lines: lines.length, text: box.querySelector("svg").textContent.replace(/^.*}}/s, "").trim()}};
    }} catch (error) {{ told[name] = {{lines: 0, text: String(error)}}; }}
  }}
  document.getElementById("told").textContent = JSON.stringify(told);
}})();
</script>"""
    (folder / "page.html").write_text(page)
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    words += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=30000", (folder / "page.html").as_uri()]
    done = subprocess.run(["chromium", *words], capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    assert match, done.stderr[-2000:]
    return dict(json.loads(html.unescape(match[1])))
