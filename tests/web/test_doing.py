"""Every action in a real browser: asked for, confirmed, done, and told."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from playwright.sync_api import expect
from tests.web.browser import Site, faults, open_site
from tests.web.town import Town

from pithead.web.actions import ACTIONS

#: In this order: what is about whom, what is typed into the form, and what is read then.
Step = tuple[str, dict[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def site(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site") / "town", town) as site:
        yield site


def steps(town: Town, file: str) -> dict[str, list[Step]]:
    """What each role does; at the end what leaves nothing to be done."""
    miner, client = {"miner_id": town.miner}, {"client_id": town.client}
    guest = {"account_id": town.client}
    return {
        "client": [("cancel_job", {"job_id": town.running}, {}), ("delete_file", {"sha256": file}, {}),
            ("create_webhook", {}, {"url": "https://hooks.invalid/x", "events": "job.completed"}),
            ("update_webhook", {"webhook_id": "*"}, {"description": "for the lab"}), ("rotate_webhook_secret", {"webhook_id": "*"}, {}),
            ("test_webhook", {"webhook_id": "*"}, {}), ("replay_delivery", {"webhook_id": "*", "delivery_id": "*"}, {}),
            ("delete_webhook", {"webhook_id": "*"}, {}),
        ],
        "operator": [
            ("approve_miner", {"miner_id": town.pending_miner}, {}), ("suspend_miner", {"miner_id": town.pending_miner}, {"reason": "too slow"}),
            ("set_limits", miner, {"requests_per_minute": "90"}), ("create_payout", miner, {"amount": "0.01"}),
            ("approve_payout", {"payout_id": town.requested}, {}), ("mark_payout_paid", {"payout_id": town.requested}, {"reference": "SEPA 7"}),
            ("reject_payout", {"payout_id": town.approved}, {"note": "wrong account"}), ("cancel_any_job", {"job_id": town.queued}, {}),
            ("create_client", {}, {"name": "Guest", "credit": "5"}), ("credit_client", client, {"amount": "5", "note": "a gift"}),
            ("set_credit_line", client, {"amount": "10"}), ("create_enrollment_token", {}, {"uses": "2"}),
            ("rotate_key", guest, {}), ("revoke_keys", guest, {}),
        ],
        "miner": [("update_miner", {}, {"location": "Oslo"}), ("request_payout", {}, {"amount": "0.01"}), ("deregister_miner", {}, {})],
        "the operator again": [("retire_miner", {"miner_id": town.pending_miner}, {})],
    }  # fmt: skip


def newest(site: Site) -> dict[str, str]:
    """The client's webhook, and what was sent there last."""
    [hook] = site.api("client", "GET", "/v1/webhooks")["webhooks"]
    sent = site.api("client", "GET", f"/v1/webhooks/{hook['webhook_id']}/deliveries")["deliveries"]
    return {"webhook_id": hook["webhook_id"]} | ({"delivery_id": sent[0]["delivery_id"]} if sent else {})


def test_every_action_is_done_in_the_browser(site: Site) -> None:
    content = b"what a job reads"
    file = sha256(content).hexdigest()
    site.api("client", "PUT", f"/v1/files/{file}", content=content)
    done: set[str] = set()
    for role, some in steps(site.town, file).items():
        with site.page(role if role in ("client", "miner") else "operator") as page:
            for name, about, typed in some:
                if "webhook_id" in about:
                    about = about | newest(site)
                query = "&".join(f"{key}={value}" for key, value in about.items())
                page.goto(f"{site.url}/dashboard/do/{name}?{query}")
                assert faults(page) == []
                for field, text in typed.items():
                    page.fill(f"#f-{field}", text)
                page.click(f"button.main:has-text('{ACTIONS[name].verb}')")
                if ACTIONS[name].endpoint.secret:
                    expect(page.locator("#secret")).to_be_visible()
                    expect(page.locator("[data-copy]")).to_be_visible()
                    assert faults(page) == []
                elif name == "deregister_miner":
                    expect(page.locator("h1")).to_have_text("Sign in")
                else:
                    expect(page.get_by_role("status")).to_contain_text(ACTIONS[name].past)
                done.add(name)
    assert done == ACTIONS.keys()
