"""The report shows what quotas did: shares of each value before and after, as SQL over the verdicts counts them."""

from dumps import curate_here, light_recipe, still_dump

from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.gather import quota_shares
from reelmill.pipelines.report.page import write_report


def test_shares_before_and_after_a_quota_and_a_rerun_keeps_the_same(tmp_path):
    out = tmp_path / "out"
    dump, recipe = still_dump(tmp_path / "dump", pictures=4), light_recipe(tmp_path / "light.toml")
    quotas = ["quotas.kind.per=kind", "quotas.kind.most=2", "quotas.rest.per=NULL", "quotas.rest.most=1"]
    curate_here(dump, out, recipe, *quotas)
    with LedgerQueries(out) as ledger:
        verdicts = ledger.rows("SELECT * FROM verdicts ORDER BY ALL")
        shares = quota_shares(ledger, load_recipe(out).quotas)
    image, text = shares["kind"]
    assert (image["name"], image["before"], image["after"]) == ("image", 4, 2)
    assert (text["name"], text["before"], text["after"]) == ("text", 2, 2)
    assert (image["share_before"], image["share_after"]) == (4 / 6, 0.5)
    assert [(row["name"], row["before"], row["after"]) for row in shares["rest"]] == [("", 6, 4)]
    page = write_report(out).page.read_text(encoding="utf-8")
    assert "Quota kind: shares" in page and "66.7 %" in page and "(no quota)" in page
    curate_here(dump, out, recipe, *quotas)
    with LedgerQueries(out) as ledger:
        assert ledger.rows("SELECT * FROM verdicts ORDER BY ALL") == verdicts
