"""What `pocketrec repo status` reports."""

from __future__ import annotations

from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.export.publish.status import describe


def test_status_names_what_expires_soon(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    with repository.change():
        repository.create(keys, days={"timestamp": 0})
    warnings = describe(tmp_path / "repo")["warnings"]
    assert any("timestamp has expired" in warning for warning in warnings)
    publish(bundles[0], repository, keys)
    status = describe(tmp_path / "repo")
    assert status["channels"]["stable"][0]["bytes"] == sum(p.stat().st_size for p in bundles[0].iterdir())
