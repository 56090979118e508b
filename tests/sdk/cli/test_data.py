"""`pocketrec data check` lists findings with their rows."""

from __future__ import annotations

import json

from command import pocketrec


def test_data_check_lists_findings_with_rows(log, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text((log / "log.csv").read_text() + "u1,i-unknown,1600000000\nu2,i3,yesterday\n")
    code, out, _ = pocketrec("data", "check", "--interactions", bad, "--items", log / "items.csv", "--json")
    assert code == 0
    findings = {f["code"]: f for f in json.loads(out)["findings"]}
    assert findings["D307"]["count"] == 1
    assert findings["D304"]["count"] == 1
    assert "1603" in json.dumps(findings["D304"]["examples"])
    code, out, _ = pocketrec("data", "check", "--interactions", bad, "--items", log / "items.csv")
    assert code == 0
    assert "D307" in out
